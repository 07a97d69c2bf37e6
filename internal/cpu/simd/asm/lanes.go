package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	scoreSignature     = "func(n, steps int, q *float32, k *%s, ldk int, s *float32, ahead *byte, from, stride int)"
	sumValuesSignature = "func(n int, p *float32, ldp int, v *%s, ldv int, o *float32, ldo int, ahead *byte, from, stride int)"
)

// regroup is the order of 64-bit numbers that puts the sums of the first of two registers before those of the second.
var regroup Mem

// laneKernels generates attention where the lanes of a register are query rows.
func (s isa) laneKernels() {
	for _, f := range formats {
		for _, t := range s.scoreTiles() {
			if f.convert == nil || t.rows <= 2 { // with more it takes less to convert a key once
				t.score(f)
			}
		}
		for _, t := range s.sumValuesTiles() {
			t.sumValues(f)
		}
	}
	s.maxLanes()
	s.expLanes()
}

// scoreTile is the product of a number of rows of queries, c elements at a time in vectors registers, with keys.
type scoreTile struct {
	isa
	rows, vectors, keys int
}

func (t scoreTile) c() int { return t.vectors * t.lanes / t.rows }

// scoreTiles returns the tiles by rows. Where memory is not the limit, an element of a key is used twice per load.
func (s isa) scoreTiles() (tiles []scoreTile) {
	for rows := 1; rows < s.lanes/2; rows *= 2 {
		tiles = append(tiles, scoreTile{s, rows, 1, s.lanes})
	}
	for rows := s.lanes / 2; rows <= s.lanes; rows *= 2 {
		tiles = append(tiles, scoreTile{s, rows, 2, s.lanes / 2})
	}
	return tiles
}

// keysAbreast is how many neighbouring keys are multiplied side by side: memory is read nearly in order, which the hardware
// prefetcher needs, and their sums are enough to keep the multipliers busy.
const keysAbreast = 4

// score generates the scores of n tiles of keys. Each row of queries takes c lanes, so a step multiplies c elements of
// each key; neighbouring lanes are summed at the end.
func (t scoreTile) score(f format) {
	doc := fmt.Sprintf("%%s is AttentionTile.Score for %d rows, %d keys at a time%s.", t.rows, t.keys, f.note)
	signature := fmt.Sprintf(scoreSignature, f.element)
	if f.name == bytes.name {
		signature = scoreIntsSignature
	}
	t.text(fmt.Sprintf("score%d%s", t.rows, f.name), signature, doc)
	free := t.keys * t.vectors
	t.generate(scoreStep{
		size: f.size, bytes: f.size * t.c(), unroll: min(4, 16/t.c()), query: free, queries: t.vectors, scaled: f.name == bytes.name,
		multiply: func(i int, from Mem, sums []reg.VecPhysical) {
			t.multiplyKey(f, from, t.fixed(free+t.vectors+i%2), free, sums)
		},
	})
}

// scoreStep is what is done with a few elements of keysAbreast neighbouring keys.
type scoreStep struct {
	size           int // bytes of an element
	bytes          int // of a key
	unroll         int // steps in a turn of the loop
	query, queries int // the first register for queries, and how many each step loads
	// multiply adds the products of the queries with key number i, at from, to its sums.
	multiply func(i int, from Mem, sums []reg.VecPhysical)
	scaled   bool              // each sum is multiplied by the key's scale, and there is one row
	quads    bool              // sums are integers, and are multiplied by the scales of keys and rows
	apart    []reg.VecPhysical // sums that multiply keeps apart, one for each key, to be added to the others in the end
}

// generate generates the loops over tiles of keys, keys and elements.
func (t scoreTile) generate(s scoreStep) {
	n, out, k := Load(Param("n"), GP64()), Load(Param("s"), GP64()), newRows("k", "ldk", keysAbreast, s.size)
	ahead, stride := lookahead()
	sums := make([]reg.VecPhysical, t.keys*t.vectors)
	for i := range sums {
		sums[i] = t.fixed(i)
	}
	next := toNextKeys(k.stride, s.bytes)
	var scales reg.Register
	if s.scaled || s.quads {
		scales = Load(Param("scales"), GP64())
	}
	Label("tile")
	s.begin(sums, quadUpper)
	for first := 0; first < t.keys; first += keysAbreast {
		loop := fmt.Sprintf("keys%d", first)
		q, steps := Load(Param("q"), GP64()), Load(Param("steps"), GP64())
		s.begin(s.apart, quadLower)
		Label(loop)
		abreast := sums[t.vectors*first:][:t.vectors*keysAbreast]
		t.turn(s, k, q, abreast)
		prefetchLines(keysAbreast*s.bytes*s.unroll/64, ahead, stride)
		ADDQ(U32(4*t.lanes*s.queries*s.unroll), q)
		k.advance(U32(s.bytes * s.unroll))
		SUBQ(U32(s.unroll), steps)
		JNZ(LabelRef(loop))
		for i, sum := range s.apart {
			if s.quads {
				joinQuads(abreast[i], sum)
			} else {
				VADDPS(sum, abreast[i], abreast[i])
			}
		}
		k.advance(next)
	}
	registers := t.keys * t.rows / t.lanes
	spare := [2]reg.VecPhysical{t.fixed(len(sums)), t.fixed(len(sums) + t.vectors)}
	t.sumNeighbours(sums, registers, spare)
	switch {
	case s.scaled:
		VMULPS(Mem{Base: scales}, sums[0], sums[0])
		ADDQ(U32(4*t.lanes), scales)
	case s.quads:
		t.scaleQuads(sums[:registers], scales, spare)
		ADDQ(U32(4*t.keys), scales)
	}
	for i, sum := range sums[:registers] {
		VMOVUPS(sum, Mem{Base: out, Disp: 4 * t.lanes * i})
	}
	ADDQ(U32(4*t.lanes*registers), out)
	DECQ(n)
	JNZ(LabelRef("tile"))
	t.end()
}

// turn adds the products of the steps of one turn of the loop.
func (t scoreTile) turn(s scoreStep, k *rows, q reg.Register, sums []reg.VecPhysical) {
	for u := range s.unroll {
		for i := range s.queries {
			VMOVUPS(Mem{Base: q, Disp: 4 * t.lanes * (s.queries*u + i)}, t.fixed(s.query+i))
		}
		for i := range keysAbreast {
			s.multiply(i, k.at(i).Offset(s.bytes*u), sums[t.vectors*i:][:t.vectors])
		}
	}
}

// multiplyKey adds c elements of a key times those of the queries, in the registers from the number query on, to the sums.
func (t scoreTile) multiplyKey(f format, from Mem, element reg.VecPhysical, query int, sums []reg.VecPhysical) {
	switch {
	case f.convert != nil && t.c() == t.lanes:
		f.convert(from, element)
	case f.convert != nil:
		half := t.half(element)
		t.repeatHalf(t.c(), from, half)
		f.convert(half, element)
	case t.c() == t.lanes:
		VFMADD231PS(from, t.fixed(query), sums[0])
		return
	default:
		t.repeat(t.c(), from, element)
	}
	for v, sum := range sums {
		VFMADD231PS(t.fixed(query+v), element, sum)
	}
}

// toNextKeys returns the bytes from the end of a key, of which a step takes so many, to the start of the one that lies keysAbreast
// below.
func toNextKeys(stride reg.Register, step int) reg.Register {
	skip, key := GP64(), Load(Param("steps"), GP64())
	IMUL3Q(U32(keysAbreast), stride, skip)
	IMUL3Q(U32(step), key, key)
	SUBQ(key, skip)
	return skip
}

// begin sets sums before the first product.
func (s scoreStep) begin(sums []reg.VecPhysical, at int) {
	if s.quads {
		beginQuads(sums, at)
		return
	}
	for _, sum := range sums {
		zero(sum)
	}
}

// sumNeighbours sums neighbouring lanes until a number of registers is left, the first ones, with a lane for each key and row.
func (s isa) sumNeighbours(sums []reg.VecPhysical, registers int, spare [2]reg.VecPhysical) {
	for len(sums) > registers {
		for i := range len(sums) / 2 {
			s.addNeighbours(sums[2*i], sums[2*i+1], sums[i], spare)
		}
		sums = sums[:len(sums)/2]
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

// prefetchLines prefetches n lines into the second-level cache.
func prefetchLines(n int, ahead, stride reg.Register) {
	for range n {
		PREFETCHT1(Mem{Base: ahead})
		ADDQ(stride, ahead)
	}
}

// repeat loads c elements, repeated over the lanes.
func (s isa) repeat(c int, from Mem, to reg.Register) {
	switch {
	case c == s.lanes:
		VMOVUPS(from, to)
	case c == 1:
		VBROADCASTSS(from, to)
	case c == 2:
		VBROADCASTSD(from, to)
	case c == 4 && s.masks:
		VBROADCASTF32X4(from, to)
	case c == 4:
		VBROADCASTF128(from, to)
	case c == 8:
		VBROADCASTF32X8(from, to)
	}
}

// half is the lower half of a register, as wide as what is converted to fill it.
func (s isa) half(x reg.VecPhysical) reg.Register {
	if s.masks {
		return x.AsY()
	}
	return x.AsX()
}

// repeatHalf is repeat for elements of 16 bits, in half a register.
func (s isa) repeatHalf(c int, from Mem, to reg.Register) {
	if c == 8 {
		VBROADCASTI32X4(from, to)
	} else {
		VPBROADCASTQ(from, to)
	}
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

// sumValuesTile is the product of h of a number of rows of weights with w registers of columns of values.
type sumValuesTile struct {
	isa
	rows, h, w int
}

// sumValuesTiles returns the tiles by rows.
func (s isa) sumValuesTiles() []sumValuesTile {
	if !s.masks {
		return []sumValuesTile{{s, 1, 1, 4}, {s, 2, 2, 4}, {s, 4, 4, 2}, {s, 8, 4, 2}}
	}
	return []sumValuesTile{{s, 1, 1, 4}, {s, 2, 2, 4}, {s, 4, 4, 4}, {s, 8, 8, 2}, {s, 16, 8, 2}}
}

// weighing is the kernel of a sumValuesTile, in work.
type weighing struct {
	sumValuesTile
	f             format
	p, ldp        reg.Register
	v, ldv        reg.Register
	o, ldo        reg.Register
	ahead, stride reg.Register
	scales        reg.Register    // of integers
	scale, table  reg.VecPhysical // the scale of a key; the numbers of the nibbles
}

// sumValues generates O[h,w] += P·V for h rows of P, stored [keys, rows], and w registers of columns of V.
func (t sumValuesTile) sumValues(f format) {
	doc := fmt.Sprintf("%%s is AttentionTile.SumValues for %d rows, %d of them and %d columns at a time%s.", t.rows, t.h, t.w*t.lanes, f.note)
	x, ints := &weighing{sumValuesTile: t, f: f}, f.size == 1
	signature := fmt.Sprintf(sumValuesSignature, f.element)
	if ints {
		signature = sumValuesIntsSignature
	}
	t.text(fmt.Sprintf("sumValues%d%s", t.rows, f.name), signature, doc)
	n := Load(Param("n"), GP64())
	x.p, x.ldp = Load(Param("p"), GP64()), scaled("ldp")
	x.v, x.ldv = Load(Param("v"), GP64()), scaledBy("ldv", f.size)
	x.ahead, x.stride = lookahead()
	x.o, x.ldo = Load(Param("o"), GP64()), scaled("ldo")
	if ints {
		x.scales, x.scale = Load(Param("scales"), GP64()), t.fixed(t.h*t.w+t.w+2)
	}
	if f.convert == nil && ints {
		x.table = t.fixed(t.registers() - 1)
		VMOVUPS(nibbleTable, x.table)
	}
	x.eachOfO(func(at Mem, sum reg.Register) { VMOVUPS(at, sum) })
	SUBQ(U32(2), n)
	JL(LabelRef("last"))
	Label("loop")
	x.step(0)
	x.step(1)
	LEAQ(Mem{Base: x.p, Index: x.ldp, Scale: 2}, x.p)
	LEAQ(Mem{Base: x.v, Index: x.ldv, Scale: 2}, x.v)
	if ints {
		ADDQ(U32(8), x.scales)
	}
	SUBQ(U32(2), n)
	JGE(LabelRef("loop"))
	Label("last")
	CMPQ(n, I8(-2))
	JE(LabelRef("store"))
	x.step(0)
	Label("store")
	x.eachOfO(func(at Mem, sum reg.Register) { VMOVUPS(sum, at) })
	t.end()
}

func (x *weighing) sum(i, j int) reg.VecPhysical { return x.fixed(i*x.w + j) }

func (x *weighing) eachOfO(f func(at Mem, sum reg.Register)) {
	row := GP64()
	MOVQ(x.o, row)
	for i := range x.h {
		for j := range x.w {
			f(Mem{Base: row, Disp: 4 * x.lanes * j}, x.sum(i, j))
		}
		ADDQ(x.ldo, row)
	}
}

// step adds the values of key u, 0 or 1 from the current one, times their weights.
func (x *weighing) step(u int) {
	h, w := x.h, x.w
	for j := range w {
		at := row(x.v, x.ldv, u, x.f.size*x.lanes*j)
		switch {
		case x.table != nil && j%2 == 0:
			convertNibbles(row(x.v, x.ldv, u, x.lanes*j/2), x.table, x.fixed(h*w+j), x.fixed(h*w+j+1))
		case x.table != nil:
		case x.f.convert != nil:
			x.f.convert(at, x.fixed(h*w+j))
		default:
			VMOVUPS(at, x.fixed(h*w+j))
		}
	}
	x.scaleValues(u)
	prefetchLines(max(1, w*x.lanes*x.f.size*h/x.rows/64), x.ahead, x.stride)
	for i := range h {
		weight := x.fixed(h*w + w + i%2)
		VBROADCASTSS(row(x.p, x.ldp, u, 4*i), weight)
		if x.scales != nil && h <= w {
			VMULPS(x.scale, weight, weight)
		}
		for j := range w {
			VFMADD231PS(x.fixed(h*w+j), weight, x.sum(i, j))
		}
	}
}

// scaleValues loads the scale of key u, if there are scales, and multiplies the values by it where that takes less than multiplying
// the weights.
func (x *weighing) scaleValues(u int) {
	if x.scales == nil {
		return
	}
	VBROADCASTSS(Mem{Base: x.scales, Disp: 4 * u}, x.scale)
	for j := range x.w {
		if x.h > x.w {
			VMULPS(x.scale, x.fixed(x.h*x.w+j), x.fixed(x.h*x.w+j))
		}
	}
}

// row addresses row i, 0 or 1, at a stride.
func row(base, stride reg.Register, i, disp int) Mem {
	m := Mem{Base: base, Disp: disp}
	if i > 0 {
		m.Index, m.Scale = stride, uint8(i)
	}
	return m
}

// maxLanes generates top[i] = max(top[i], s[i], s[i+lanes] …).
func (s isa) maxLanes() {
	s.text("maxLanes", "func(s []float32, top *float32)", "%s is AttentionKernels.Max.")
	n, x, top := length("s"), pointer("s"), Load(Param("top"), GP64())
	tops := s.group(4, func(r reg.Register) { VMOVUPS(Mem{Base: top}, r) })
	s.whole(n, GP64(), 4, func(_ *mask, u int, at func(reg.Register) Mem) { VMAXPS(at(x), tops[u], tops[u]) })
	VMOVUPS(s.combine(tops, VMAXPS), Mem{Base: top})
	s.end()
}

// expLanes generates s = exp(s - top), lane by lane, and sum[i] += s[i] + s[i+lanes] …. It prefetches two lines per register, because
// so long a loop would otherwise leave memory idle.
func (s isa) expLanes() {
	s.text("expLanes", "func(s []float32, top, sum *float32, ahead *byte, from, stride int)", "%s is AttentionKernels.Exp.")
	n, x, sum := length("s"), pointer("s"), Load(Param("sum"), GP64())
	ahead, stride := lookahead()
	top, total := s.reg(), s.reg()
	VMOVUPS(Mem{Base: Load(Param("top"), GP64())}, top)
	VMOVUPS(Mem{Base: sum}, total)
	s.whole(n, GP64(), 1, func(_ *mask, _ int, at func(reg.Register) Mem) {
		v := s.reg()
		VMOVUPS(at(x), v)
		prefetchLines(2, ahead, stride)
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
