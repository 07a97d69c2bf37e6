package main

import (
	"fmt"
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const microSignature = "func(n, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, ldc int, acc bool)"

const microDoc = "%%s is GemmKernels.Micro for %d rows and up to %d columns%s."

// micros generates the tiles of a product: every number of rows, two registers of columns. Those that cover fewer columns
// are others, as a masked load takes a place among the multiply-adds; with AVX2, where no register is left for masks, they
// have up to four rows.
func (s isa) micros() {
	masked := 4
	if s.masks {
		masked = s.mr
	}
	for m := 1; m <= s.mr; m++ {
		s.micro(fmt.Sprintf("micro%dx", m), m, false, "")
	}
	for m := 1; m <= masked; m++ {
		s.micro(fmt.Sprintf("edge%dx", m), m, true, ", masked")
	}
}

// tile is a micro kernel's registers: sums first, then two of B, two for elements of A, and AVX2's masks.
type tile struct {
	isa
	m      int
	masked bool
	masks  [2]*mask
}

func (t *tile) sum(i, j int) reg.VecPhysical { return t.fixed(2*i + j) }
func (t *tile) b(j int) reg.VecPhysical      { return t.fixed(2*t.m + j) }
func (t *tile) a(i int) reg.VecPhysical      { return t.fixed(2*t.m + 2 + i%2) }

func (s isa) micro(name string, m int, masked bool, note string) {
	s.text(name, microSignature, fmt.Sprintf(microDoc, m, 2*s.lanes, note))
	t := &tile{isa: s, m: m, masked: masked}
	if masked {
		t.loadMasks()
	}
	t.prefetch()
	k, a, b := Load(Param("k"), GP64()), newRows("a", "ars", m, 4), Load(Param("b"), GP64())
	acs, bs := scaled("acs"), scaled("bs")
	for i := range 2 * m {
		zero(s.fixed(i))
	}
	Label("loop")
	for j := range 2 {
		s.load(t.masks[j], Mem{Base: b, Disp: 4 * s.lanes * j}, t.b(j))
	}
	for i := range m {
		VBROADCASTSS(a.at(i), t.a(i))
		VFMADD231PS(t.b(0), t.a(i), t.sum(i, 0))
		VFMADD231PS(t.b(1), t.a(i), t.sum(i, 1))
	}
	a.advance(acs)
	ADDQ(bs, b)
	DECQ(k)
	JNZ(LabelRef("loop"))
	t.write()
	VZEROUPPER()
	RET()
}

func (t *tile) loadMasks() {
	n := Load(Param("n"), GP64())
	if !t.isa.masks {
		for j := range 2 {
			v := t.fixed(2*t.m + 4 + j)
			laneMask(n, 8*j, v)
			t.masks[j] = &mask{v: v}
		}
		return
	}
	ones := GP64()
	MOVQ(I32(-1), ones)
	BZHIQ(n, ones, ones)
	KMOVW(ones.As32(), reg.K1)
	SHRQ(U8(16), ones)
	KMOVW(ones.As32(), reg.K2)
	t.masks = [2]*mask{{k: reg.K1}, {k: reg.K2}}
}

// prefetch prefetches C, which is needed last.
func (t *tile) prefetch() {
	c, ldc := Load(Param("c"), GP64()), scaled("ldc")
	t.eachOfC(c, ldc, func(i, j int, at Mem) {
		if j == 0 || t.isa.masks { // with AVX2 a row of the tile is one cache line
			PREFETCHT0(at)
		}
	})
}

// write stores the sums to C, after adding what is there if acc.
func (t *tile) write() {
	c, ldc, acc := Load(Param("c"), GP64()), scaled("ldc"), Load(Param("acc"), GP8())
	TESTB(acc, acc)
	JE(LabelRef("store"))
	from := GP64()
	MOVQ(c, from)
	t.eachOfC(from, ldc, func(i, j int, at Mem) {
		t.load(t.masks[j], at, t.b(j))
		VADDPS(t.b(j), t.sum(i, j), t.sum(i, j))
	})
	Label("store")
	t.eachOfC(c, ldc, func(i, j int, at Mem) { t.store(t.masks[j], t.sum(i, j), at) })
}

func (t *tile) eachOfC(c, ldc reg.Register, f func(i, j int, at Mem)) {
	for i := range t.m {
		for j := range 2 {
			f(i, j, Mem{Base: c, Disp: 4 * t.lanes * j})
		}
		if i < t.m-1 {
			ADDQ(ldc, c)
		}
	}
}

// scaled loads a stride of float32 in bytes.
func scaled(param string) reg.Register { return scaledBy(param, 4) }

// scaledBy loads a stride of elements of that size in bytes.
func scaledBy(param string, size int) reg.Register {
	r := Load(Param(param), GP64())
	SHLQ(U8(bits.TrailingZeros(uint(size))), r)
	return r
}

// rows addresses up to 16 rows at a common stride, seven from each base.
type rows struct {
	base                 []reg.Register
	stride, triple, five reg.Register
	n                    int
}

func newRows(param, stride string, n, size int) *rows {
	r := &rows{n: n, base: []reg.Register{Load(Param(param), GP64())}}
	r.stride = scaledBy(stride, size)
	if n > 3 {
		r.triple = GP64()
		LEAQ(Mem{Base: r.stride, Index: r.stride, Scale: 2}, r.triple)
	}
	if n > 5 {
		r.five = GP64()
		LEAQ(Mem{Base: r.stride, Index: r.stride, Scale: 4}, r.five)
	}
	for 7*len(r.base) < n {
		last, next := r.base[len(r.base)-1], GP64()
		LEAQ(Mem{Base: last, Index: r.stride, Scale: 1}, next)
		LEAQ(Mem{Base: next, Index: r.triple, Scale: 2}, next)
		r.base = append(r.base, next)
	}
	return r
}

// following returns the rows from the n-th on, n a power of two.
func (r *rows) following(n int) *rows {
	next, skip := *r, GP64()
	next.base = nil
	MOVQ(r.stride, skip)
	SHLQ(U8(bits.TrailingZeros(uint(n))), skip)
	for _, base := range r.base {
		to := GP64()
		LEAQ(Mem{Base: base, Index: skip, Scale: 1}, to)
		next.base = append(next.base, to)
	}
	return &next
}

func (r *rows) at(i int) Mem {
	base := r.base[i/7]
	switch i % 7 {
	case 0:
		return Mem{Base: base}
	case 3:
		return Mem{Base: base, Index: r.triple, Scale: 1}
	case 5:
		return Mem{Base: base, Index: r.five, Scale: 1}
	case 6:
		return Mem{Base: base, Index: r.triple, Scale: 2}
	}
	return Mem{Base: base, Index: r.stride, Scale: uint8(i % 7)}
}

func (r *rows) advance(by Op) {
	for _, base := range r.base {
		ADDQ(by, base)
	}
}

func (r *rows) retreat(by Op) {
	for _, base := range r.base {
		SUBQ(by, base)
	}
}
