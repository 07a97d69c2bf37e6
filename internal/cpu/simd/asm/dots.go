package main

import (
	"fmt"
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const dotsSignature = "func(n, k int, a *float32, lda int, b *%s, ldb int, alpha float32, c *float32, ldc int, acc bool)"

// dotTiles generates the products of rows of A with rows of B, which are of a format: up to four (two with AVX2, for want
// of registers) with four, one with any number, and with AVX-512 four to eight, packed, with three or two.
func (s isa) dotTiles(b format) {
	most := 2
	if s.masks {
		most = 4
	}
	s.dotRow(b)
	for h := 1; h <= most; h++ {
		s.dotTile(h, 4, b)
	}
	for h := most; h <= 8 && s.masks; h++ {
		s.dotTile(h, 2, b)
		s.dotTile(h, 3, b)
	}
}

// dotRow is the kernel of the products of one row of A, in work: its registers, and how many hold a sum.
type dotRow struct {
	isa           // of the whole kernel
	t      isa    // of the sums
	apart  int    // registers of t in one of isa
	f      format // of B
	sums   []reg.VecVirtual
	values []reg.VecVirtual
	a, at  reg.Register // the elements that come next
	k      reg.GPVirtual
}

// dotTurns is how many sums take turns, as one alone would wait for itself.
const dotTurns = 4

// dotRow generates the products of one row of A, short enough to stay in the first-level cache, with n rows of B one after another:
// B is read from end to end, as hardware prefetchers like best. Numbers of 16 bits are converted eight at a time, which is faster
// on Zen 4 than sixteen; their sums are those of float32 to the bit.
func (s isa) dotRow(f format) {
	s.text("dots1"+f.name, fmt.Sprintf(dotsSignature, f.element), "%s is GemmKernels.Dots for one short row of A"+f.note+".")
	b, ldb, c := Load(Param("b"), GP64()), scaledBy("ldb", f.size), Load(Param("c"), GP64())
	r := &dotRow{isa: s, t: s, apart: 1, f: f, a: GP64(), at: GP64(), k: GP64()}
	if f.convert != nil {
		r.t, r.apart = vector256, s.lanes/vector256.lanes
	}
	Label("row")
	r.sums, r.values = r.t.group(dotTurns*r.apart, zero), r.t.group(dotTurns*r.apart, func(reg.Register) {})
	MOVQ(b, r.at)
	Load(Param("a"), r.a)
	Load(Param("k"), r.k)
	r.loop()
	if f.convert == nil {
		r.tail()
	}
	r.write(c)
	ADDQ(ldb, b)
	ADDQ(U32(4), c)
	DECQ(address("n"))
	JNZ(LabelRef("row"))
	s.end()
}

// loop adds the products of whole registers.
func (r *dotRow) loop() {
	SUBQ(U32(dotTurns*r.lanes), r.k)
	JL(LabelRef("few"))
	Label("loop")
	r.step(dotTurns)
	JGE(LabelRef("loop"))
	Label("few")
	ADDQ(U32((dotTurns-1)*r.lanes), r.k)
	JL(LabelRef("tail"))
	Label("one")
	r.step(1)
	JGE(LabelRef("one"))
	Label("tail")
}

// step adds the products of a number of registers.
func (r *dotRow) step(count int) {
	for i := range count * r.apart {
		from := Mem{Base: r.at, Disp: r.f.size * r.t.lanes * i}
		if r.f.convert != nil {
			r.f.convert(from, r.values[i])
		} else {
			VMOVUPS(from, r.values[i])
			PREFETCHT0(Mem{Base: r.a, Disp: 4 * r.t.lanes * i}) // used twice, so it stays: see dotSums.step
		}
		VFMADD231PS(Mem{Base: r.a, Disp: 4 * r.t.lanes * i}, r.values[i], r.sums[i])
	}
	ADDQ(U32(r.f.size*r.lanes*count), r.at)
	ADDQ(U32(4*r.lanes*count), r.a)
	SUBQ(U32(r.lanes*count), r.k)
}

// tail adds the products of what does not fill a register.
func (r *dotRow) tail() {
	ADDQ(U32(r.lanes), r.k)
	JE(LabelRef("reduce"))
	m := r.isa.tail(r.k)
	r.load(m, Mem{Base: r.at}, r.values[0])
	r.load(m, Mem{Base: r.a}, r.values[1])
	VFMADD231PS(r.values[0], r.values[1], r.sums[0])
	Label("reduce")
}

// write stores the sum to C, after adding what is there if acc.
func (r *dotRow) write(c reg.Register) {
	total := r.t.fold(r.t.combine(r.sums, VADDPS), VADDPS)
	VMULSS(address("alpha"), total, total)
	CMPB(address("acc"), U8(0))
	JE(LabelRef("store"))
	VADDSS(Mem{Base: c}, total, total)
	Label("store")
	VMOVSS(total, Mem{Base: c})
}

// dotSums are the sums of a tile of h rows and w columns, in the first registers.
type dotSums struct {
	isa
	h, w int
	b    format
}

func (t dotSums) at(i, j int) reg.VecPhysical { return t.fixed(t.w*i + j) }

// free returns register i of those that hold no sums.
func (t dotSums) free(i int) reg.VecPhysical { return t.fixed(t.w*t.h + i) }

func (s isa) dotTile(h, w int, f format) {
	t := dotSums{s, h, w, f}
	doc := fmt.Sprintf("%%s is GemmKernels.Dots for %d rows of A and %d of B%s.", h, w, f.note)
	if t.packed() {
		doc = fmt.Sprintf("%%s is GemmKernels.DotsPacked for %d rows of A and %d of B%s.", h, w, f.note)
	}
	s.text(fmt.Sprintf("dots%dx%d%s", h, w, f.name), fmt.Sprintf(dotsSignature, f.element), doc)
	a, b := t.rowsOfA(), newRows("b", "ldb", w, f.size)
	ahead := t.rowsAhead(b)
	Label("tile")
	ahead.begin(b)
	for i := range h * w {
		zero(s.fixed(i))
	}
	Load(Param("a"), a.base[0])
	k := Load(Param("k"), GP64()).(reg.GPVirtual)
	t.loop(a, b, k, ahead)
	if f.convert == nil {
		TESTQ(k, k)
		JE(LabelRef("reduce"))
		t.step(a, b, s.tail(k))
		Label("reduce")
	}
	t.reduce()
	t.write()
	t.rewind(b, ahead.tile)
	ADDQ(U32(4*w), address("c"))
	SUBQ(U32(w), address("n"))
	JNZ(LabelRef("tile"))
	s.end()
}

// packed tells whether a register of each row of A comes behind the other.
func (t dotSums) packed() bool { return t.w < 4 }

func (t dotSums) rowsOfA() *rows {
	if t.packed() {
		return &rows{n: t.h, base: []reg.Register{GP64()}}
	}
	return newRows("a", "lda", t.h, 4)
}

// ofA is the register of row i of A that comes next, and size the bytes from it to the one behind.
func (t dotSums) ofA(a *rows, i int) (at Mem, size int) {
	if t.packed() {
		return Mem{Base: a.base[0], Disp: 4 * t.lanes * i}, 4 * t.lanes * t.h
	}
	return a.at(i), 4 * t.lanes
}

// address returns the place of a parameter.
func address(param string) Mem {
	p, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// rowsAhead prefetches the rows of B that the next tile reads, in the order of their addresses. A tile reads its own rows side by
// side: the hardware prefetcher follows one stream, but loses two or four that take turns.
type rowsAhead struct {
	tile       reg.GPVirtual // bytes from a row of B to the row that the next tile reads
	at         reg.GPVirtual // what is prefetched next
	left, turn reg.GPVirtual // steps until the next row's turn, and from one's to the other's
	skip       reg.GPVirtual // bytes from the end of a row to the start of the next
	lines      int           // of a step
}

func (t dotSums) rowsAhead(b *rows) *rowsAhead {
	r := &rowsAhead{tile: GP64(), at: GP64(), left: GP64(), turn: GP64(), skip: GP64(), lines: (t.w*t.lanes*t.b.size + 63) / 64}
	IMUL3Q(U32(t.w), b.stride, r.tile)
	Load(Param("k"), r.turn)
	MOVQ(r.turn, r.at)
	SHLQ(U8(bits.TrailingZeros(uint(t.b.size))), r.at)
	t.steps(r.turn, 64*r.lines/t.b.size)
	IMUL3Q(I32(-64*r.lines), r.turn, r.skip)
	ADDQ(b.stride, r.skip)
	CMPQ(r.at, b.stride)
	JNE(LabelRef("apart"))
	MOVQ(I32(-1), r.turn) // rows without gaps are as one
	Label("apart")
	return r
}

// steps is k = ⌈k/each⌉, for fewer than 2^15 steps of each, 2^n or three times that.
func (t dotSums) steps(k reg.Register, each int) {
	ADDQ(U32(each-1), k)
	SHRQ(U8(bits.TrailingZeros(uint(each))), k)
	if each%3 == 0 {
		IMUL3Q(U32(1<<16/3+1), k, k)
		SHRQ(U8(16), k)
	}
}

// begin goes to the rows behind those of a tile.
func (r *rowsAhead) begin(b *rows) {
	LEAQ(Mem{Base: b.base[0], Index: r.tile, Scale: 1}, r.at)
	MOVQ(r.turn, r.left)
}

// prefetch prefetches the lines of a step.
func (r *rowsAhead) prefetch() {
	for i := range r.lines {
		PREFETCHT1(Mem{Base: r.at, Disp: 64 * i})
	}
	ADDQ(U32(64*r.lines), r.at)
	DECQ(r.left)
	JNZ(LabelRef("row"))
	ADDQ(r.skip, r.at)
	MOVQ(r.turn, r.left)
	Label("row")
}

// loop adds the products of whole registers.
func (t dotSums) loop(a, b *rows, k reg.GPVirtual, ahead *rowsAhead) {
	Label("loop")
	CMPQ(k, U32(t.lanes))
	JL(LabelRef("rest"))
	t.step(a, b, nil)
	ahead.prefetch()
	_, size := t.ofA(a, 0)
	a.advance(U32(size))
	b.advance(U32(t.b.size * t.lanes))
	SUBQ(U32(t.lanes), k)
	JMP(LabelRef("loop"))
	Label("rest")
}

// rewind moves B to its next rows.
func (t dotSums) rewind(b *rows, tile reg.Register) {
	done := Load(Param("k"), GP64())
	ANDQ(I32(-t.lanes), done)
	SHLQ(U8(bits.TrailingZeros(uint(t.b.size))), done)
	b.retreat(done)
	b.advance(tile)
}

// step adds the products of one register of each row. Those of B stay, those of A come one after another. Packed rows of float32
// are loaded again for each row of B after the first: a first-level cache that keeps what is used more than once (Zen 4's) then
// keeps them, and what is read from memory meanwhile does not drive them out.
func (t dotSums) step(a, b *rows, m *mask) {
	for j := range t.w {
		if t.b.convert != nil {
			t.b.convert(b.at(j), t.free(j))
		} else {
			t.load(m, b.at(j), t.free(j))
		}
	}
	if t.packed() {
		m = nil // packed rows end with zeros
	}
	for i := range t.h {
		x := t.free(t.w + i%2)
		at, _ := t.ofA(a, i)
		t.load(m, at, x)
		for j := range t.w {
			if t.packed() && t.b.convert == nil && j > 0 {
				VFMADD231PS(at, t.free(j), t.at(i, j))
			} else {
				VFMADD231PS(x, t.free(j), t.at(i, j))
			}
		}
	}
}

// reduce sums the lanes of the registers of a row of C into the lowest lanes of its first, and scales them by alpha. The fourth
// of three is what it may be.
func (t dotSums) reduce() {
	high, scale := t.free(0), t.free(1).AsX()
	VBROADCASTSS(address("alpha"), scale)
	for i := range t.h {
		sums := t.lowest(i)
		for j := 0; j < t.w && t.masks; j++ {
			VEXTRACTF64X4(U8(1), t.at(i, j), high.AsY())
			VADDPS(high.AsY(), t.at(i, j).AsY(), sums[j].AsY())
		}
		low, last := sums[0], sums[(t.w-1)/2*2]
		for j := 0; j < t.w; j += 2 {
			VHADDPS(sums[min(j+1, t.w-1)].AsY(), sums[j].AsY(), sums[j].AsY())
		}
		VHADDPS(last.AsY(), low.AsY(), low.AsY())
		VEXTRACTF128(U8(1), low.AsY(), sums[1].AsX())
		VADDPS(sums[1].AsX(), low.AsX(), t.at(i, 0).AsX())
		VMULPS(scale, t.at(i, 0).AsX(), t.at(i, 0).AsX())
	}
}

// lowest returns where row i is reduced: in its own registers, or in those that the first rows no longer need if it has some
// beyond the sixteenth, which VHADDPS does not know.
func (t dotSums) lowest(i int) (sums []reg.VecPhysical) {
	const known = 16
	for j := range t.w {
		sums = append(sums, t.at(i, j))
	}
	if t.w*(i+1) > known {
		for j := range t.w {
			sums[j] = t.at(j/(t.w-1), 1+j%(t.w-1))
		}
	}
	return sums
}

// move returns the instruction that moves the sums of a row of C.
func (t dotSums) move() func(from, to Op) {
	switch t.w {
	case 2:
		return func(from, to Op) { VMOVSD(from, to) }
	case 3:
		three, bits := K(), GP32()
		MOVL(U32(0b111), bits)
		KMOVW(bits, three)
		return func(from, to Op) {
			if m, ok := from.(Mem); ok {
				VMOVUPS_Z(m, three, to)
			} else {
				VMOVUPS(from, three, to)
			}
		}
	}
	return func(from, to Op) { VMOVUPS(from, to) }
}

// write stores the sums to C, after adding what is there if acc.
func (t dotSums) write() {
	c, ldc, acc := Load(Param("c"), GP64()), scaled("ldc"), Load(Param("acc"), GP8())
	move := t.move()
	each := func(c reg.Register, f func(at Mem, sum reg.Register)) {
		for i := range t.h {
			f(Mem{Base: c}, t.at(i, 0).AsX())
			if i < t.h-1 {
				ADDQ(ldc, c)
			}
		}
	}
	TESTB(acc, acc)
	JE(LabelRef("store"))
	from, old := GP64(), t.free(0).AsX()
	MOVQ(c, from)
	each(from, func(at Mem, sum reg.Register) {
		move(at, old)
		VADDPS(old, sum, sum)
	})
	Label("store")
	each(c, func(at Mem, sum reg.Register) { move(sum, at) })
}
