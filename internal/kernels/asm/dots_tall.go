package main

import (
	"fmt"
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tallDots are the sums of a tile of h rows of A and one of B, in the first registers: so many that a row of B, which comes
// from memory, is read once for all.
type tallDots struct {
	dotSums
	a      *rows
	b, ldb reg.Register
}

// tallTile generates the product of 9 to 16 rows of A with one row of B after another.
func (s isa) tallTile(h int, f format) {
	doc := fmt.Sprintf("%%s is path.dots for %d rows of A and one of B%s.", h, f.note)
	s.text(fmt.Sprintf("dots%dx1%s", h, f.name), fmt.Sprintf(dotsSignature, f.element), doc)
	t := tallDots{dotSums: dotSums{s, h, 1, f}, a: newRows("a", "lda", h, 4)}
	t.b, t.ldb = Load(Param("b"), GP64()), scaledBy("ldb", f.size)
	Label("tile")
	for i := range h {
		zero(s.fixed(i))
	}
	k := Load(Param("k"), GP64()).(reg.GPVirtual)
	t.loop(k)
	t.reduce()
	t.write()
	t.rewind()
	ADDQ(U32(4), address("c"))
	DECQ(address("n"))
	JNZ(LabelRef("tile"))
	s.end()
}

// loop adds the products of whole registers, and asks for the next row of B; then those of what is left.
func (t tallDots) loop(k reg.GPVirtual) {
	Label("loop")
	CMPQ(k, U32(t.lanes))
	JL(LabelRef("rest"))
	PREFETCHT0(Mem{Base: t.b, Index: t.ldb, Scale: 1})
	t.step(nil)
	t.a.advance(U32(4 * t.lanes))
	ADDQ(U32(t.dotSums.b.size*t.lanes), t.b)
	SUBQ(U32(t.lanes), k)
	JMP(LabelRef("loop"))
	Label("rest")
	if t.dotSums.b.convert == nil {
		TESTQ(k, k)
		JE(LabelRef("reduce"))
		t.step(t.tail(k))
		Label("reduce")
	}
}

// step adds the products of one register of each row.
func (t tallDots) step(m *mask) {
	y, x := t.fixed(t.h), t.fixed(t.h+1)
	if t.dotSums.b.convert != nil {
		t.dotSums.b.convert(Mem{Base: t.b}, y)
	} else {
		t.load(m, Mem{Base: t.b}, y)
	}
	for i := range t.h {
		if m == nil {
			VFMADD231PS(t.a.at(i), y, t.fixed(i))
			continue
		}
		t.load(m, t.a.at(i), x)
		VFMADD231PS(x, y, t.fixed(i))
	}
}

// reduce sums the lanes of each register into the lowest, and scales them by alpha.
func (t tallDots) reduce() {
	high, scale := t.fixed(30), t.fixed(31).AsX()
	VBROADCASTSS(address("alpha"), scale)
	if t.h%2 != 0 {
		zero(t.fixed(t.h))
	}
	for i := 0; i < t.h; i += 2 {
		x, y := t.fixed(i), t.fixed(i+1)
		for _, r := range []reg.VecPhysical{x, y} {
			VEXTRACTF64X4(U8(1), r, high.AsY())
			VADDPS(high.AsY(), r.AsY(), r.AsY())
		}
		VHADDPS(y.AsY(), x.AsY(), x.AsY())
		VEXTRACTF128(U8(1), x.AsY(), y.AsX())
		VADDPS(y.AsX(), x.AsX(), x.AsX())
		VHADDPS(x.AsX(), x.AsX(), x.AsX())
		VMULPS(scale, x.AsX(), x.AsX())
		VMOVSHDUP(x.AsX(), y.AsX())
	}
}

// write stores the sums to C, after adding what is there if acc.
func (t tallDots) write() {
	c, ldc, acc := Load(Param("c"), GP64()), scaled("ldc"), Load(Param("acc"), GP8())
	each := func(c reg.Register, f func(at Mem, sum reg.Register)) {
		for i := range t.h {
			f(Mem{Base: c}, t.fixed(i).AsX())
			ADDQ(ldc, c)
		}
	}
	TESTB(acc, acc)
	JE(LabelRef("store"))
	from := GP64()
	MOVQ(c, from)
	each(from, func(at Mem, sum reg.Register) { VADDSS(at, sum, sum) })
	Label("store")
	each(c, func(at Mem, sum reg.Register) { VMOVSS(sum, at) })
}

// rewind moves A back to its start, and B to the next row.
func (t tallDots) rewind() {
	done := Load(Param("k"), GP64())
	ANDQ(I32(-t.lanes), done)
	SHLQ(U8(2), done)
	t.a.retreat(done)
	if t.dotSums.b.size < 4 {
		SHRQ(U8(2-bits.TrailingZeros(uint(t.dotSums.b.size))), done)
	}
	SUBQ(done, t.b)
	ADDQ(t.ldb, t.b)
}
