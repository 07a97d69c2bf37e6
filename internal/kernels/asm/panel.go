package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const panelSignature = "func(tiles, k int, a *float32, ars, acs int, b *float32, c *float32, ldc int, acc bool, ahead *float32)"

// panel is a kernel of m whole rows in work: where its operands are.
type panel struct {
	*tile
	tiles, calm   Mem // how many are left: tiles; quarters of the loop until C has been asked for
	k, to, acs, b reg.Register
	c, ahead      reg.Register
	beyond        reg.Register // the second row that is asked for, seven behind ahead; nil with few rows
	a             *rows
}

// panel generates the product that large matrices spend their time in: the rows of a whole tile times one packed panel of B
// after another. What is needed next is asked for as the loop runs, a line or two every four steps: a burst of requests
// would hold up the loads behind it.
func (s isa) panel(m int) {
	s.text("panel", panelSignature, "%s is path.panel.")
	p := &panel{tile: &tile{isa: s, m: m}, tiles: AllocLocal(8), calm: AllocLocal(8)}
	p.load()
	Label("tile")
	for i := range 2 * m {
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

func (p *panel) load() {
	p.k, p.to = GP64(), GP64()
	Load(Param("tiles"), p.k)
	MOVQ(p.k, p.tiles)
	p.a, p.acs = newRows("a", "ars", p.m, 4), scaled("acs")
	p.b, p.c, p.ahead = Load(Param("b"), GP64()), Load(Param("c"), GP64()), Load(Param("ahead"), GP64())
	if len(p.a.base) > 1 {
		p.beyond = GP64()
		LEAQ(Mem{Base: p.ahead, Index: p.a.stride, Scale: 1}, p.beyond)
		LEAQ(Mem{Base: p.beyond, Index: p.a.triple, Scale: 2}, p.beyond)
	}
}

// quarters is four steps at a time: first with C's rows asked for, then without.
func (p *panel) quarters() {
	Load(Param("k"), p.k)
	SHRQ(U8(2), p.k)
	JE(LabelRef("rest"))
	MOVQ(p.c, p.to)
	MOVQ(I32(p.m), p.calm)
	SHLQ(U8(1), p.k) // indexes pairs of elements
	Label("first")
	for j := range 2 {
		if j == 0 || p.isa.masks { // with AVX2 a row of the tile is one cache line
			PREFETCHT0(Mem{Base: p.to, Disp: 64 * j})
		}
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
	if p.beyond != nil {
		PREFETCHT0(Mem{Base: p.beyond, Index: p.k, Scale: 8})
	}
	for u := range 4 {
		p.step(u)
	}
	ADDQ(U32(4*8*p.lanes), p.b)
}

// step is one step of the depth, the u-th of its group.
func (p *panel) step(u int) {
	for j := range 2 {
		VMOVUPS(Mem{Base: p.b, Disp: 4 * p.lanes * (2*u + j)}, p.tile.b(j))
	}
	for i := range p.m {
		VBROADCASTSS(p.a.at(i), p.tile.a(i))
		VFMADD231PS(p.tile.b(0), p.tile.a(i), p.sum(i, 0))
		VFMADD231PS(p.tile.b(1), p.tile.a(i), p.sum(i, 1))
	}
	p.a.advance(p.acs)
}

// rest is the steps that do not make four.
func (p *panel) rest() {
	Load(Param("k"), p.k)
	ANDQ(U8(3), p.k)
	JE(LabelRef("sums"))
	Label("single")
	p.step(0)
	ADDQ(U32(8*p.lanes), p.b)
	DECQ(p.k)
	JNZ(LabelRef("single"))
	Label("sums")
}

// next writes C and goes to the next tile: A is the same, B goes on, another row is asked for.
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
	ADDQ(U32(8*p.lanes), p.c)
	Load(Param("k"), p.k)
	IMULQ(p.acs, p.k)
	p.a.retreat(p.k)
	ADDQ(p.a.stride, p.ahead)
	if p.beyond != nil {
		ADDQ(p.a.stride, p.beyond)
	}
}

// eachRow visits the tile of C from p.to; p.k holds the stride.
func (p *panel) eachRow(f func(i, j int, at Mem)) {
	for i := range p.m {
		for j := range 2 {
			f(i, j, Mem{Base: p.to, Disp: 4 * p.lanes * j})
		}
		ADDQ(p.k, p.to)
	}
}
