package main

// halves generates the conversions of 16-bit numbers, 8 at a time.
func (a *asm) halves() {
	for _, f := range formats[1:] {
		a.decode(f)
	}
	a.toF16()
	a.toBF16()
}

func (a *asm) decode(f format) {
	a.kernel("from"+f.name, "n int, dst *float32, src *uint16", "", "path.from"+f.name+" for a multiple of 8")
	n, dst, src, v, low, high := a.arg("n"), a.arg("dst"), a.arg("src"), a.vec(), a.vec(), a.vec()
	a.loop("loop", n, 8, func() {
		a.loadOn(4, src, v)
		f.widen(a, v, low, high)
		a.op("FSTPQ.P (%s, %s), 32(%v)", low.f(), high.f(), dst)
	})
	a.ret()
}

func (a *asm) toF16() {
	a.kernel("toF16", "n int, dst *uint16, src *float32", "", "path.toF16 for a multiple of 8")
	n, dst, src, v := a.arg("n"), a.arg("dst"), a.arg("src"), a.group(3)
	a.loop("loop", n, 8, func() {
		a.op("FLDPQ.P 32(%v), (%s, %s)", src, v[0].f(), v[1].f())
		a.convert(fcvtn, v[0], v[2])
		a.convert(fcvtn2, v[1], v[2])
		a.op("FMOVQ.P %s, 16(%v)", v[2].f(), dst)
	})
	a.ret()
}

// toBF16 follows toBF16Go.
func (a *asm) toBF16() {
	a.kernel("toBF16", "n int, dst *uint16, src *float32", "", "path.toBF16 for a multiple of 8")
	n, dst, src, v, out := a.arg("n"), a.arg("dst"), a.arg("src"), a.group(2), a.vec()
	x := a.numbers()
	lowBits, below, quiet := a.vec(), a.vec(), a.vec()
	x.constant(lowBit, lowBits)
	x.constant(rounding, below)
	x.constant(quietBit, quiet)
	a.loop("loop", n, 8, func() {
		a.op("FLDPQ.P 32(%v), (%s, %s)", src, v[0].f(), v[1].f())
		for _, w := range v {
			a.op("VUSHR $16, %s, %s", w.s4(), x.t.s4())
			a.op("VAND %s, %s, %s", lowBits.b16(), x.t.b16(), x.t.b16())
			a.op("VADD %s, %s, %s", below.s4(), x.t.s4(), x.t.s4())
			a.op("VADD %s, %s, %s", w.s4(), x.t.s4(), x.t.s4())
			a.op("VORR %s, %s, %s", quiet.b16(), w.b16(), x.u.b16())
			a.do(fcmeq, w, w, w) // all but NaN
			a.op("VBIT %s, %s, %s", w.b16(), x.t.b16(), x.u.b16())
			a.move(x.u, w)
		}
		a.op("VUZP2 %s, %s, %s", v[1].h8(), v[0].h8(), out.h8())
		a.op("FMOVQ.P %s, 16(%v)", out.f(), dst)
	})
	a.ret()
}
