package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const dotsSignature = "func(k int, a *float32, lda int, b *float32, ldb int, alpha float32, c *float32, ldc int, acc bool)"

// dotTiles generates the products of up to four rows of A (two with AVX2, for want of registers) with four rows of B.
func (s isa) dotTiles() {
	most := 2
	if s.masks {
		most = 4
	}
	for h := 1; h <= most; h++ {
		s.dotTile(h)
	}
}

func (s isa) dotTile(h int) {
	s.text(fmt.Sprintf("dots%dx4", h), dotsSignature, fmt.Sprintf("%%s is path.dots for %d rows of A.", h))
	k := Load(Param("k"), GP64()).(reg.GPVirtual)
	a, b := newRows("a", "lda", h), newRows("b", "ldb", 4)
	ahead := GP64() // bytes from a row of B to the row that the next call reads
	MOVQ(b.stride, ahead)
	SHLQ(U8(2), ahead)
	sum := func(i, j int) reg.VecPhysical { return s.fixed(4*i + j) }
	for i := range 4 * h {
		zero(s.fixed(i))
	}
	step := func(m *mask) {
		for i := range h {
			s.load(m, a.at(i), s.fixed(4*h+i))
		}
		for j := range 4 {
			s.load(m, b.at(j), s.fixed(5*h))
			for i := range h {
				VFMADD231PS(s.fixed(5*h), s.fixed(4*h+i), sum(i, j))
			}
		}
	}
	Label("loop")
	CMPQ(k, U32(s.lanes))
	JL(LabelRef("rest"))
	step(nil)
	next := GP64()
	MOVQ(b.base[0], next)
	ADDQ(ahead, next)
	for j := range 4 {
		m := b.at(j)
		m.Base = next
		PREFETCHT0(m)
	}
	a.advance(U32(4 * s.lanes))
	b.advance(U32(4 * s.lanes))
	SUBQ(U32(s.lanes), k)
	JMP(LabelRef("loop"))
	Label("rest")
	TESTQ(k, k)
	JE(LabelRef("reduce"))
	step(s.tail(k))
	Label("reduce")
	s.reduceDots(h, sum)
	VZEROUPPER()
	RET()
}

// reduceDots sums the lanes of four registers at a time into the four columns of a row of C.
func (s isa) reduceDots(h int, sum func(i, j int) reg.VecPhysical) {
	c, ldc, acc := Load(Param("c"), GP64()), scaled("ldc"), Load(Param("acc"), GP8())
	alpha, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	scale := s.fixed(4*h + 1).AsX()
	high := s.fixed(4 * h)
	VBROADCASTSS(alpha.Addr, scale)
	for i := range h {
		if s.masks {
			for j := range 4 {
				VEXTRACTF64X4(U8(1), sum(i, j), high.AsY())
				VADDPS(high.AsY(), sum(i, j).AsY(), sum(i, j).AsY())
			}
		}
		s0, s2, low := sum(i, 0).AsY(), sum(i, 2).AsY(), sum(i, 0).AsX()
		VHADDPS(sum(i, 1).AsY(), s0, s0)
		VHADDPS(sum(i, 3).AsY(), s2, s2)
		VHADDPS(s2, s0, s0)
		VEXTRACTF128(U8(1), s0, sum(i, 2).AsX())
		VADDPS(sum(i, 2).AsX(), low, low)
		VMULPS(scale, low, low)
	}
	TESTB(acc, acc)
	JE(LabelRef("store"))
	from := GP64()
	MOVQ(c, from)
	for i := range h {
		VADDPS(Mem{Base: from}, sum(i, 0).AsX(), sum(i, 0).AsX())
		if i < h-1 {
			ADDQ(ldc, from)
		}
	}
	Label("store")
	for i := range h {
		VMOVUPS(sum(i, 0).AsX(), Mem{Base: c})
		if i < h-1 {
			ADDQ(ldc, c)
		}
	}
}
