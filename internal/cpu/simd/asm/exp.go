package main

import (
	"math"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// constant is a float32 in all lanes of a table. AVX2 reads 32 bytes of it, AVX-512 four, which it broadcasts: the linker
// aligns to 32 bytes, and a register of 64 would cross cache lines.
type constant struct {
	name  string
	bits  uint32
	table Mem
}

func (c *constant) define() {
	c.table = GLOBL(c.name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(c.bits))
	}
}

// constant loads c into all lanes of r.
func (s isa) constant(c *constant, r reg.Register) {
	if s.masks {
		VBROADCASTSS(c.table, r)
	} else {
		VMOVUPS(c.table, r)
	}
}

// with is an instruction whose first operand is c: plain with AVX2, broadcasting with AVX-512.
func (s isa) with(c *constant, plain, broadcast func(...Op), ops ...Op) {
	if s.masks {
		plain = broadcast
	}
	plain(append([]Op{c.table}, ops...)...)
}

func number(name string, v float32) *constant {
	return &constant{name: name, bits: math.Float32bits(v)}
}

// The constants of exp32 and cdf32, which explain them. expTop clamps where the result is infinite anyway.
var (
	minusInf = &constant{name: "minusInf", bits: 0xff800000}
	one      = number("one", 1)
	two      = number("two", 2)
	three    = number("three", 3)
	half     = number("minusHalf", -0.5)
	middle   = number("cdfMiddle", 0.5625)
	absolute = &constant{name: "absolute", bits: 0x7fffffff}
	signBit  = &constant{name: "signBit", bits: 1 << 31}
	bias     = &constant{name: "bias", bits: 127}
	expTop   = number("expTop", 89)
	expMin   = number("expMin", -87.33655)
	log2e    = number("log2e", 1.44269504)
	ln2Hi    = number("ln2Hi", 0.693359375)
	ln2Lo    = number("ln2Lo", -2.12194440e-4)
	poly     = []*constant{
		number("expC5", 1.9875691500e-4), number("expC4", 1.3981999507e-3), number("expC3", 8.3334519073e-3),
		number("expC2", 4.1665795894e-2), number("expC1", 1.6666665459e-1), number("expC0", 5.0000001201e-1),
	}
	lowBit    = &constant{name: "lowBit", bits: 1}
	belowHalf = &constant{name: "belowHalf", bits: 0x7fff}
	quietBit  = &constant{name: "quietBit", bits: 1 << 22}
	cdfPoly   = []*constant{
		number("cdfC10", -0.0423693801), number("cdfC9", 0.0443989357), number("cdfC8", 0.0278026522),
		number("cdfC7", -0.0792254875), number("cdfC6", 0.0403987932), number("cdfC5", 0.0718226586),
		number("cdfC4", -0.12940691), number("cdfC3", -0.050753951), number("cdfC2", 0.353883496),
		number("cdfC1", 0.546604812), number("cdfC0", 0.200872092),
	}
	numbers = slices.Concat(poly, cdfPoly, []*constant{
		lowBit, belowHalf, quietBit, minusInf, one, two, three, half, middle, absolute, signBit, bias, expTop, expMin, log2e, ln2Hi, ln2Lo,
	})
)

// exp replaces x by eˣ, lane by lane. The operand order of the clamp lets NaN through.
func (s isa) exp(x reg.VecVirtual) {
	top := s.reg()
	s.constant(expTop, top)
	VMINPS(x, top, x)
	small := s.below(x)
	n, r, p := s.reg(), s.reg(), s.reg()
	s.with(log2e, VMULPS, VMULPS_BCST, x, n)
	s.round(n)
	VMOVAPS(x, r)
	s.with(ln2Hi, VFNMADD231PS, VFNMADD231PS_BCST, n, r)
	s.with(ln2Lo, VFNMADD231PS, VFNMADD231PS_BCST, n, r)
	s.horner(poly, r, p)
	VMULPS(r, r, x)
	VFMADD213PS(r, x, p)
	s.with(one, VADDPS, VADDPS_BCST, p, p)
	s.scalef(n, p, small, x)
}

// below returns the lanes of x whose exponential counts as zero: as the lanes to keep with AVX-512.
func (s isa) below(x reg.Register) *mask {
	const less, notLess = 1, 5
	if s.masks {
		k := K()
		VCMPPS_BCST(U8(notLess), expMin.table, x, k)
		return &mask{k: k}
	}
	v := s.reg()
	VCMPPS(U8(less), expMin.table, x, v)
	return &mask{v: v}
}

func (s isa) round(x reg.Register) {
	if s.masks {
		VRNDSCALEPS(U8(8), x, x)
	} else {
		VROUNDPS(U8(8), x, x)
	}
}

// scalef computes x = p·2ⁿ, or 0 in small lanes. AVX2 multiplies twice, because 2ⁿ alone may overflow.
func (s isa) scalef(n, p reg.Register, small *mask, x reg.Register) {
	if s.masks {
		VSCALEFPS_Z(n, p, small.k, x)
		return
	}
	half := s.reg()
	VCVTPS2DQ(n, n)
	VPSRAD(U8(1), n, half)
	VPSUBD(half, n, n)
	for _, e := range []reg.Register{half, n} {
		VPADDD(bias.table, e, e)
		VPSLLD(U8(23), e, e)
		VMULPS(e, p, p)
	}
	VANDNPS(p, small.v, x)
}

// exponentials generates the loops around exp.
func (s isa) exponentials() {
	s.expSum()
	s.sigmoid()
	s.slope()
	s.cdf()
}

func (s isa) expSum() {
	s.text("expSum", "func(y, x []float32, shift float32) float32", "%s is path.expSum.")
	n, x, y, shift := length("x"), pointer("x"), pointer("y"), s.broadcast("shift")
	sum, lowest := s.reg(), s.reg()
	zero(sum)
	s.constant(minusInf, lowest)
	s.each(n, 1, func(m *mask, u int, at func(reg.Register) Mem) {
		v := s.reg()
		s.loadOr(m, at(x), lowest, v)
		VSUBPS(shift, v, v)
		s.exp(v)
		VADDPS(v, sum, sum)
		s.store(m, v, at(y))
	})
	s.result(s.fold(sum, VADDPS))
}

func (s isa) sigmoid() {
	s.text("sigmoid", "func(y, x []float32, c1, c3 float32)", "%s is path.sigmoid.")
	n, x, y, c1, c3 := length("x"), pointer("x"), pointer("y"), s.broadcast("c1"), s.broadcast("c3")
	s.each(n, 1, func(m *mask, u int, at func(reg.Register) Mem) {
		v := s.loaded(m, at(x))
		s.sigmoidOf(v, c1, c3)
		s.store(m, v, at(y))
	})
	s.end()
}

// sigmoidOf replaces x by 1/(1+exp(-x·(c1+c3·x²))).
func (s isa) sigmoidOf(x reg.VecVirtual, c1, c3 reg.Register) {
	z, unit := s.reg(), s.reg()
	VMULPS(x, x, z)
	VFMADD213PS(c1, c3, z)
	VMULPS(z, x, x)
	s.xor(signBit, x)
	s.exp(x)
	s.constant(one, unit)
	VADDPS(unit, x, x)
	VDIVPS(x, unit, x)
}

func (s isa) xor(c *constant, x reg.Register) {
	if s.masks {
		VPXORD_BCST(c.table, x, x)
	} else {
		VXORPS(c.table, x, x)
	}
}

func (s isa) and(c *constant, x reg.Register) {
	if s.masks {
		VPANDD_BCST(c.table, x, x)
	} else {
		VANDPS(c.table, x, x)
	}
}

// horner is p = the polynomial of r, highest power first.
func (s isa) horner(coefficients []*constant, r, p reg.Register) {
	s.constant(coefficients[0], p)
	for _, c := range coefficients[1:] {
		s.with(c, VFMADD213PS, VFMADD213PS_BCST, r, p)
	}
}

// slope is s + s·(1-s)·x·(c1+3·c3·x²), s the sigmoid.
func (s isa) slope() {
	s.text("slope", "func(y, x []float32, c1, c3 float32)", "%s is path.slope.")
	n, x, y, c1, c3 := length("x"), pointer("x"), pointer("y"), s.broadcast("c1"), s.broadcast("c3")
	s.each(n, 1, func(m *mask, u int, at func(reg.Register) Mem) {
		v, sig, z := s.reg(), s.reg(), s.reg()
		s.load(m, at(x), v)
		VMOVAPS(v, sig)
		s.sigmoidOf(sig, c1, c3)
		s.load(m, at(x), v)
		VMULPS(v, v, z)
		s.with(three, VMULPS, VMULPS_BCST, z, z)
		VFMADD213PS(c1, c3, z)
		VMULPS(v, z, z)
		VMULPS(sig, z, z)
		VFNMADD213PS(z, sig, z)
		VADDPS(sig, z, z)
		s.store(m, z, at(y))
	})
	s.end()
}

func (s isa) cdf() {
	s.text("cdf", "func(y, x []float32)", "%s is path.cdf.")
	n, x, y := length("x"), pointer("x"), pointer("y")
	s.each(n, 1, func(m *mask, u int, at func(reg.Register) Mem) {
		z, e, t, p := s.reg(), s.reg(), s.reg(), s.reg()
		s.load(m, at(x), z)
		s.and(absolute, z)
		s.with(half, VMULPS, VMULPS_BCST, z, e)
		VMULPS(z, e, e)
		s.exp(e)
		s.with(two, VADDPS, VADDPS_BCST, z, z)
		s.constant(two, t)
		VDIVPS(z, t, t)
		s.with(middle, VSUBPS, VSUBPS_BCST, t, t)
		s.horner(cdfPoly, t, p)
		VMULPS(e, p, p)
		s.load(m, at(x), z)
		s.mirror(z, p, t)
		s.store(m, p, at(y))
	})
	s.end()
}

// mirror replaces p by 1-p in the lanes where x is above 0.
func (s isa) mirror(x, p, scratch reg.VecVirtual) {
	const greater = 14
	zero(scratch)
	if s.masks {
		k := K()
		VCMPPS(U8(greater), scratch, x, k)
		s.constant(one, scratch)
		VSUBPS(p, scratch, k, p)
		return
	}
	VCMPPS(U8(greater), scratch, x, x)
	s.constant(one, scratch)
	VSUBPS(p, scratch, scratch)
	VBLENDVPS(x, scratch, p, p)
}
