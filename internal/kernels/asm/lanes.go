package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	scoreSignature = "func(n, steps int, q *float32, k *float32, ldk int, s *float32, ahead *byte, from, stride int)"
	weighSignature = "func(n int, p *float32, ldp int, v *float32, ldv int, o *float32, ldo int, ahead *byte, from, stride int)"
)

// regroup is the order of 64-bit numbers that puts the sums of the first of two registers before those of the second.
var regroup Mem

// laneKernels generates attention where the lanes of a register are query rows.
func (s isa) laneKernels() {
	for rows := 1; rows <= s.lanes; rows *= 2 {
		s.score(rows)
	}
	for _, t := range [][2]int{{1, 4}, {2, 4}, {4, 4}, {8, 2}} {
		if s.masks || t[0] < 4 {
			s.weigh(t[0], t[1])
		}
	}
	if !s.masks {
		s.weigh(4, 2)
	}
	s.maxLanes()
	s.expLanes()
}

// score generates the scores of n times as many keys as there are lanes. Each row of queries takes c lanes, so a step
// multiplies c elements of each key; neighbouring lanes are summed at the end.
func (s isa) score(rows int) {
	c := s.lanes / rows
	s.text(fmt.Sprintf("score%d", rows), scoreSignature, fmt.Sprintf("%%s is laneTile.score for %d rows.", rows))
	n, out, k := Load(Param("n"), GP64()), Load(Param("s"), GP64()), newRows("k", "ldk", s.lanes, 4)
	ahead, stride := lookahead()
	sums := make([]reg.VecPhysical, s.lanes)
	for i := range sums {
		sums[i] = s.fixed(i)
	}
	query, element := s.fixed(s.lanes), s.fixed(s.lanes+1)
	Label("tile")
	for _, sum := range sums {
		zero(sum)
	}
	q, steps := Load(Param("q"), GP64()), Load(Param("steps"), GP64())
	Label("loop")
	VMOVUPS(Mem{Base: q}, query)
	for i, sum := range sums {
		s.multiplyRepeated(c, k.at(i), element, query, sum)
	}
	for range max(1, c*s.lanes/16) {
		PREFETCHT0(Mem{Base: ahead})
		ADDQ(stride, ahead)
	}
	ADDQ(U32(4*s.lanes), q)
	k.advance(U32(4 * c))
	DECQ(steps)
	JNZ(LabelRef("loop"))
	s.storeSums(sums, rows, out, [2]reg.VecPhysical{query, element})
	ADDQ(U32(4*s.lanes*rows), out)
	k.advance(s.toNextTile(c, k.stride))
	DECQ(n)
	JNZ(LabelRef("tile"))
	s.end()
}

// toNextTile returns the bytes from the end of a key to the start of the one that lies as many rows below as there are lanes.
func (s isa) toNextTile(c int, stride reg.Register) reg.Register {
	skip, size := GP64(), Load(Param("steps"), GP64())
	IMUL3Q(U32(s.lanes), stride, skip)
	IMUL3Q(U32(4*c), size, size)
	SUBQ(size, skip)
	return skip
}

// storeSums sums neighbouring lanes until each row has one, and stores what are then as many registers as rows.
func (s isa) storeSums(sums []reg.VecPhysical, rows int, out reg.Register, spare [2]reg.VecPhysical) {
	for len(sums) > rows {
		for i := range len(sums) / 2 {
			s.addNeighbours(sums[2*i], sums[2*i+1], sums[i], spare)
		}
		sums = sums[:len(sums)/2]
	}
	for i, sum := range sums {
		VMOVUPS(sum, Mem{Base: out, Disp: 4 * s.lanes * i})
	}
}

// lookahead returns the address to prefetch next and the step from one to the next. The sum is made here because a Go
// pointer must not leave what it points into.
func lookahead() (ahead, stride reg.Register) {
	ahead, stride = Load(Param("ahead"), GP64()), Load(Param("stride"), GP64())
	from := Load(Param("from"), GP64())
	ADDQ(from, ahead)
	return ahead, stride
}

// multiplyRepeated adds c elements from memory, repeated over the lanes, times y to sum.
func (s isa) multiplyRepeated(c int, from Mem, t, y, sum reg.Register) {
	if c == s.lanes {
		VFMADD231PS(from, y, sum)
		return
	}
	if c == 1 && s.masks {
		VFMADD231PS_BCST(from, y, sum)
		return
	}
	switch c {
	case 1:
		VBROADCASTSS(from, t)
	case 2:
		VBROADCASTSD(from, t)
	case 4:
		if s.masks {
			VBROADCASTF32X4(from, t)
		} else {
			VBROADCASTF128(from, t)
		}
	case 8:
		VBROADCASTF32X8(from, t)
	}
	VFMADD231PS(t, y, sum)
}

// addNeighbours writes to z the sums of neighbouring lanes of x, then those of y.
func (s isa) addNeighbours(x, y, z reg.VecPhysical, t [2]reg.VecPhysical) {
	VSHUFPS(U8(0x88), y, x, t[0])
	VSHUFPS(U8(0xdd), y, x, t[1])
	VADDPS(t[0], t[1], t[0])
	if !s.masks {
		VPERMPD(U8(0xd8), t[0], z)
		return
	}
	VMOVUPS(regroup, t[1])
	VPERMPD(t[0], t[1], z)
}

// weigh generates O[h,w] += P·V for h rows of P, stored [keys, rows], and w registers of columns of V.
func (s isa) weigh(h, w int) {
	doc := fmt.Sprintf("%%s is laneTile.weigh for %d rows and %d columns.", h, w*s.lanes)
	s.text(fmt.Sprintf("weigh%dx%d", h, w), weighSignature, doc)
	n, p, ldp := Load(Param("n"), GP64()), Load(Param("p"), GP64()), scaled("ldp")
	v, ldv := Load(Param("v"), GP64()), scaled("ldv")
	ahead, stride := lookahead()
	o, ldo := Load(Param("o"), GP64()), scaled("ldo")
	sum := func(i, j int) reg.VecPhysical { return s.fixed(i*w + j) }
	eachOfO := func(f func(at Mem, sum reg.Register)) {
		row := GP64()
		MOVQ(o, row)
		for i := range h {
			for j := range w {
				f(Mem{Base: row, Disp: 4 * s.lanes * j}, sum(i, j))
			}
			ADDQ(ldo, row)
		}
	}
	eachOfO(func(at Mem, sum reg.Register) { VMOVUPS(at, sum) })
	Label("loop")
	for j := range w {
		VMOVUPS(Mem{Base: v, Disp: 4 * s.lanes * j}, s.fixed(h*w+j))
		if 4*s.lanes*j%64 == 0 {
			PREFETCHT0(Mem{Base: ahead})
			ADDQ(stride, ahead)
		}
	}
	for i := range h {
		weight := s.fixed(h*w + w + i%2)
		VBROADCASTSS(Mem{Base: p, Disp: 4 * i}, weight)
		for j := range w {
			VFMADD231PS(s.fixed(h*w+j), weight, sum(i, j))
		}
	}
	ADDQ(ldp, p)
	ADDQ(ldv, v)
	DECQ(n)
	JNZ(LabelRef("loop"))
	eachOfO(func(at Mem, sum reg.Register) { VMOVUPS(sum, at) })
	s.end()
}

// maxLanes is top[i] = max(top[i], s[i], s[i+lanes] …).
func (s isa) maxLanes() {
	s.text("maxLanes", "func(s []float32, top *float32)", "%s is lanePath.max.")
	n, x, top := length("s"), pointer("s"), Load(Param("top"), GP64())
	tops := s.group(4, func(r reg.Register) { VMOVUPS(Mem{Base: top}, r) })
	s.whole(n, GP64(), 4, func(_ *mask, u int, at func(reg.Register) Mem) { VMAXPS(at(x), tops[u], tops[u]) })
	VMOVUPS(s.combine(tops, VMAXPS), Mem{Base: top})
	s.end()
}

// expLanes is s = exp(s - top), lane by lane, and sum[i] += s[i] + s[i+lanes] ….
func (s isa) expLanes() {
	s.text("expLanes", "func(s []float32, top, sum *float32)", "%s is lanePath.exp.")
	n, x, sum := length("s"), pointer("s"), Load(Param("sum"), GP64())
	top, total := s.reg(), s.reg()
	VMOVUPS(Mem{Base: Load(Param("top"), GP64())}, top)
	VMOVUPS(Mem{Base: sum}, total)
	s.whole(n, GP64(), 1, func(_ *mask, _ int, at func(reg.Register) Mem) {
		v := s.reg()
		VMOVUPS(at(x), v)
		VSUBPS(top, v, v)
		s.exp(v)
		VADDPS(v, total, total)
		VMOVUPS(v, at(x))
	})
	VMOVUPS(total, Mem{Base: sum})
	s.end()
}

func layOutRegroup() {
	regroup = GLOBL("regroup", RODATA|NOPTR)
	for i, from := range []uint64{0, 2, 4, 6, 1, 3, 5, 7} {
		DATA(8*i, U64(from))
	}
}
