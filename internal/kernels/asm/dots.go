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
// of registers) with four, and with AVX-512 up to eight with two.
func (s isa) dotTiles(b format) {
	most := 2
	if s.masks {
		most = 4
	}
	for h := 1; h <= most; h++ {
		s.dotTile(h, 4, b)
	}
	for h := 1; h <= 8 && s.masks; h++ {
		s.dotTile(h, 2, b)
	}
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
	doc := fmt.Sprintf("%%s is path.dots for %d rows of A and %d of B%s.", h, w, f.note)
	s.text(fmt.Sprintf("dots%dx%d%s", h, w, f.name), fmt.Sprintf(dotsSignature, f.element), doc)
	t := dotSums{s, h, w, f}
	a, b := newRows("a", "lda", h, 4), newRows("b", "ldb", w, f.size)
	ahead := GP64() // bytes from a row of B to the row that the next tile reads
	IMUL3Q(U32(w), b.stride, ahead)
	Label("tile")
	for i := range h * w {
		zero(s.fixed(i))
	}
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
	t.rewind(a, b, ahead)
	ADDQ(U32(4*w), address("c"))
	SUBQ(U32(w), address("n"))
	JNZ(LabelRef("tile"))
	s.end()
}

// address returns where a parameter lies.
func address(param string) Mem {
	p, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// loop adds the products of whole registers, and asks for the rows of B that the next tile reads.
func (t dotSums) loop(a, b *rows, k, ahead reg.GPVirtual) {
	Label("loop")
	CMPQ(k, U32(t.lanes))
	JL(LabelRef("rest"))
	t.step(a, b, nil)
	next := GP64()
	MOVQ(b.base[0], next)
	ADDQ(ahead, next)
	for j := range t.w {
		m := b.at(j)
		m.Base = next
		PREFETCHT0(m)
	}
	a.advance(U32(4 * t.lanes))
	b.advance(U32(t.b.size * t.lanes))
	SUBQ(U32(t.lanes), k)
	JMP(LabelRef("loop"))
	Label("rest")
}

// rewind moves A back to its start, and B to that of the next rows.
func (t dotSums) rewind(a, b *rows, ahead reg.Register) {
	done := Load(Param("k"), GP64())
	ANDQ(I32(-t.lanes), done)
	SHLQ(U8(bits.TrailingZeros(uint(t.b.size))), done)
	b.retreat(done)
	b.advance(ahead)
	if t.b.size < 4 {
		SHLQ(U8(2-bits.TrailingZeros(uint(t.b.size))), done)
	}
	a.retreat(done)
}

// step adds the products of one register of each row.
func (t dotSums) step(a, b *rows, m *mask) {
	for i := range t.h {
		t.load(m, a.at(i), t.free(i))
	}
	y := t.free(t.h)
	for j := range t.w {
		if t.b.convert != nil {
			t.b.convert(b.at(j), y)
		} else {
			t.load(m, b.at(j), y)
		}
		for i := range t.h {
			VFMADD231PS(y, t.free(i), t.at(i, j))
		}
	}
}

// reduce sums the lanes of the registers of a row of C into the lowest lanes of its first, and scales them by alpha.
func (t dotSums) reduce() {
	high, scale := t.free(0), t.free(1).AsX()
	VBROADCASTSS(address("alpha"), scale)
	for i := range t.h {
		for j := 0; j < t.w && t.masks; j++ {
			VEXTRACTF64X4(U8(1), t.at(i, j), high.AsY())
			VADDPS(high.AsY(), t.at(i, j).AsY(), t.at(i, j).AsY())
		}
		for j := 0; j < t.w; j += 2 {
			VHADDPS(t.at(i, j+1).AsY(), t.at(i, j).AsY(), t.at(i, j).AsY())
		}
		low, spare := t.at(i, 0), t.at(i, 1)
		VHADDPS(t.at(i, t.w-2).AsY(), low.AsY(), low.AsY())
		VEXTRACTF128(U8(1), low.AsY(), spare.AsX())
		VADDPS(spare.AsX(), low.AsX(), low.AsX())
		VMULPS(scale, low.AsX(), low.AsX())
	}
}

// write stores the sums to C, after adding what is there if acc.
func (t dotSums) write() {
	c, ldc, acc := Load(Param("c"), GP64()), scaled("ldc"), Load(Param("acc"), GP8())
	move := func(from, to Op) { VMOVUPS(from, to) }
	if t.w == 2 {
		move = func(from, to Op) { VMOVSD(from, to) }
	}
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
