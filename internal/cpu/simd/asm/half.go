package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// format is a format of numbers in memory. convert loads a register of them, as float32; it is nil for float32 itself.
type format struct {
	name, element, note string
	size                int
	convert             func(from Op, to reg.Register)
}

var formats = []format{
	{"", "float32", "", 4, nil},
	{"BF16", "uint16", ", a multiple of the lanes long", 2, func(from Op, to reg.Register) {
		VPMOVZXWD(from, to)
		VPSLLD(U8(16), to, to)
	}},
	{"F16", "uint16", ", a multiple of the lanes long", 2, func(from Op, to reg.Register) { VCVTPH2PS(from, to) }},
}

// halves generates the conversions of 16-bit numbers, for whole registers of float32.
func (s isa) halves() {
	for _, f := range formats[1:] {
		s.widen("from"+f.name, f.convert)
	}
	s.narrow("toBF16", s.roundBF16())
	s.narrow("toF16", func(x reg.VecVirtual, to Mem) { VCVTPS2PH(U8(0), x, to) })
}

func halfwords(m Mem) Mem {
	m.Scale /= 2
	m.Disp /= 2
	return m
}

func (s isa) widen(name string, convert func(from Op, to reg.Register)) {
	s.text(name, "func(n int, dst *float32, src *uint16)", "%s is path."+name+" for a multiple of the lanes.")
	n, dst, src := Load(Param("n"), GP64()).(reg.GPVirtual), Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	s.whole(n, GP64(), 4, func(_ *mask, _ int, at func(reg.Register) Mem) {
		x := s.reg()
		convert(halfwords(at(src)), x)
		VMOVUPS(x, at(dst))
	})
	s.end()
}

func (s isa) narrow(name string, convert func(x reg.VecVirtual, to Mem)) {
	s.text(name, "func(n int, dst *uint16, src *float32)", "%s is path."+name+" for a multiple of the lanes.")
	n, dst, src := Load(Param("n"), GP64()).(reg.GPVirtual), Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	s.whole(n, GP64(), 2, func(_ *mask, _ int, at func(reg.Register) Mem) {
		x := s.reg()
		VMOVUPS(at(src), x)
		convert(x, halfwords(at(dst)))
	})
	s.end()
}

// roundBF16 returns a conversion that follows toBF16Go.
func (s isa) roundBF16() func(x reg.VecVirtual, to Mem) {
	return func(x reg.VecVirtual, to Mem) {
		odd, up, quiet := s.reg(), s.reg(), s.reg()
		VPSRLD(U8(16), x, odd)
		s.bits(lowBit, VANDPS, odd, odd)
		s.bits(belowHalf, VPADDD, x, up)
		VPADDD(odd, up, up)
		s.bits(quietBit, VORPS, x, quiet)
		s.pickNaN(x, quiet, up)
		VPSRLD(U8(16), up, up)
		if s.masks {
			VPMOVDW(up, to)
			return
		}
		VPACKUSDW(up, up, up)
		VPERMQ(U8(0x08), up, up)
		VMOVDQU(up.AsX(), to)
	}
}

// bits is y = op(x, c).
func (s isa) bits(c *constant, op func(...Op), x, y reg.Register) {
	t := s.reg()
	s.constant(c, t)
	op(t, x, y)
}

// pickNaN replaces the lanes of y where x is no number by those of v.
func (s isa) pickNaN(x, v, y reg.Register) {
	const unordered = 3
	if s.masks {
		k := K()
		VCMPPS(U8(unordered), x, x, k)
		VMOVDQA32(v, k, y)
		return
	}
	m := s.reg()
	VCMPPS(U8(unordered), x, x, m)
	VBLENDVPS(m, v, y, y)
}
