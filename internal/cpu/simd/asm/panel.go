package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const panelSignature = "func(tiles, k int, a, b, c *float32, ldc int, acc bool, ahead *float32, lda int)"

// panel is a kernel in work. Its tile is m rows and w registers of columns; sums come first in the registers, then a row of
// B, then elements of A.
type panel struct {
	isa
	m, w          int
	tiles, calm   Mem // how many are left: tiles; quarters of the loop until C has been prefetched
	k, to         reg.Register
	a, b, c       reg.Register
	ahead, beyond reg.Register // the rows of A that are prefetched
}

// panel generates the product that large matrices spend their time in: a packed panel of A times one packed panel of B after
// another. What is needed next is prefetched as the loop runs, a line or two every four steps: a burst of requests would hold
// up the loads behind it. Four steps are as many as short displacements reach.
func (s isa) panel(m, w int) {
	name := fmt.Sprintf("panel%dx%d", m, w*s.lanes)
	s.text(name, panelSignature, fmt.Sprintf("%%s is GemmKernels.Panel for %d rows and %d columns.", m, w*s.lanes))
	p := &panel{isa: s, m: m, w: w, tiles: AllocLocal(8), calm: AllocLocal(8)}
	p.load()
	Label("tile")
	Load(Param("a"), p.a)
	for i := range w * m {
		zero(s.fixed(i))
	}
	p.quarters()
	p.rest()
	p.next()
	DECQ(p.tiles)
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

func (p *panel) sum(i, j int) reg.VecPhysical { return p.fixed(p.w*i + j) }
func (p *panel) row(j int) reg.VecPhysical    { return p.fixed(p.w*p.m + j) }

// element returns the register of an element of A: they take turns.
func (p *panel) element(i int) reg.VecPhysical {
	taken := p.w * (p.m + 1)
	return p.fixed(taken + i%(p.registers()-taken))
}

// width is the bytes of a row of the tile.
func (p *panel) width() int { return 4 * p.lanes * p.w }

func (p *panel) load() {
	p.k, p.to, p.a = GP64(), GP64(), GP64()
	Load(Param("tiles"), p.k)
	MOVQ(p.k, p.tiles)
	p.b, p.c, p.ahead, p.beyond = Load(Param("b"), GP64()), Load(Param("c"), GP64()), Load(Param("ahead"), GP64()), GP64()
	lda := Load(Param("lda"), GP64())
	LEAQ(Mem{Base: p.ahead, Index: lda, Scale: 8}, p.beyond)
	LEAQ(Mem{Base: p.beyond, Index: lda, Scale: 8}, p.beyond)
}

// quarters takes four steps at a time, at first with prefetches of C's rows.
func (p *panel) quarters() {
	Load(Param("k"), p.k)
	SHRQ(U8(2), p.k)
	JE(LabelRef("rest"))
	MOVQ(p.c, p.to)
	MOVQ(I32(p.m), p.calm)
	SHLQ(U8(1), p.k) // indexes pairs of elements
	Label("first")
	for at := 0; at < p.width(); at += 64 {
		PREFETCHT0(Mem{Base: p.to, Disp: at})
	}
	p.quarter()
	SUBQ(U8(2), p.k)
	JE(LabelRef("rest"))
	ldc := Load(Param("ldc"), GP64())
	LEAQ(Mem{Base: p.to, Index: ldc, Scale: 4}, p.to)
	DECQ(p.calm)
	JNZ(LabelRef("first"))
	Label("later")
	p.quarter()
	SUBQ(U8(2), p.k)
	JNZ(LabelRef("later"))
	Label("rest")
}

func (p *panel) quarter() {
	PREFETCHT0(Mem{Base: p.ahead, Index: p.k, Scale: 8})
	PREFETCHT0(Mem{Base: p.beyond, Index: p.k, Scale: 8})
	for u := range 4 {
		p.step(u)
	}
	ADDQ(U32(4*4*p.m), p.a)
	ADDQ(U32(4*p.width()), p.b)
}

// step is one step of the depth, the u-th of its group.
func (p *panel) step(u int) {
	for j := range p.w {
		VMOVUPS(Mem{Base: p.b, Disp: u*p.width() + 4*p.lanes*j}, p.row(j))
	}
	for i := range p.m {
		VBROADCASTSS(Mem{Base: p.a, Disp: 4 * (u*p.m + i)}, p.element(i))
		for j := range p.w {
			VFMADD231PS(p.row(j), p.element(i), p.sum(i, j))
		}
	}
}

// rest is the steps that do not make four.
func (p *panel) rest() {
	Load(Param("k"), p.k)
	ANDQ(U8(3), p.k)
	JE(LabelRef("sums"))
	Label("single")
	p.step(0)
	ADDQ(U32(4*p.m), p.a)
	ADDQ(U32(p.width()), p.b)
	DECQ(p.k)
	JNZ(LabelRef("single"))
	Label("sums")
}

// next writes C and goes to the next tile: A is the same, B goes on, another row is prefetched.
func (p *panel) next() {
	acc := Load(Param("acc"), GP8())
	Load(Param("ldc"), p.k)
	SHLQ(U8(2), p.k)
	TESTB(acc, acc)
	JE(LabelRef("store"))
	MOVQ(p.c, p.to)
	p.eachRow(func(i, j int, at Mem) { VADDPS(at, p.sum(i, j), p.sum(i, j)) })
	Label("store")
	MOVQ(p.c, p.to)
	p.eachRow(func(i, j int, at Mem) { VMOVUPS(p.sum(i, j), at) })
	ADDQ(U32(p.width()), p.c)
	lda := Load(Param("lda"), GP64())
	LEAQ(Mem{Base: p.ahead, Index: lda, Scale: 4}, p.ahead)
	LEAQ(Mem{Base: p.beyond, Index: lda, Scale: 4}, p.beyond)
}

// eachRow visits the tile of C from p.to; p.k holds the stride.
func (p *panel) eachRow(f func(i, j int, at Mem)) {
	for i := range p.m {
		for j := range p.w {
			f(i, j, Mem{Base: p.to, Disp: 4 * p.lanes * j})
		}
		ADDQ(p.k, p.to)
	}
}
