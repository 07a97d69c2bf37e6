package main

import (
	"fmt"
	"math"
	"slices"
)

// constant is a float32 in all lanes. Constants lie in a table, from where each is loaded where it is needed: loads cost less
// than registers, of which there are too few.
type constant struct {
	name string
	bits uint32
}

func number(name string, v float32) constant { return constant{name, math.Float32bits(v)} }

// The constants of exp32 and cdf32, which explain them. expTop clamps where the result is infinite anyway.
var (
	one      = number("one", 1)
	two      = number("two", 2)
	three    = number("three", 3)
	half     = number("minusHalf", -0.5)
	middle   = number("cdfMiddle", 0.5625)
	bias     = constant{"bias", 127}
	expTop   = number("expTop", 89)
	expMin   = number("expMin", -87.33655)
	log2e    = number("log2e", 1.44269504)
	ln2Hi    = number("ln2Hi", 0.693359375)
	ln2Lo    = number("ln2Lo", -2.12194440e-4)
	lowBit   = constant{"lowBit", 1}
	rounding = constant{"rounding", 0x7fff}
	quietBit = constant{"quietBit", 1 << 22}
	expPoly  = []constant{
		number("expC5", 1.9875691500e-4), number("expC4", 1.3981999507e-3), number("expC3", 8.3334519073e-3),
		number("expC2", 4.1665795894e-2), number("expC1", 1.6666665459e-1), number("expC0", 5.0000001201e-1), one, one,
	}
	cdfPoly = []constant{
		number("cdfC10", -0.0423693801), number("cdfC9", 0.0443989357), number("cdfC8", 0.0278026522),
		number("cdfC7", -0.0792254875), number("cdfC6", 0.0403987932), number("cdfC5", 0.0718226586),
		number("cdfC4", -0.12940691), number("cdfC3", -0.050753951), number("cdfC2", 0.353883496),
		number("cdfC1", 0.546604812), number("cdfC0", 0.200872092),
	}
	constants = slices.Concat(expPoly[:6], cdfPoly, []constant{
		one, two, three, half, middle, bias, expTop, expMin, log2e, ln2Hi, ln2Lo, lowBit, rounding, quietBit,
	})
)

// layOutConstants writes the table.
func (a *asm) layOutConstants() {
	fmt.Fprintln(&a.text)
	for i, c := range constants {
		for half := range 2 {
			fmt.Fprintf(&a.text, "DATA constants<>+%d(SB)/8, $0x%08x%08x // %s\n", 16*i+8*half, c.bits, c.bits, c.name)
		}
	}
	fmt.Fprintf(&a.text, "GLOBL constants<>(SB), RODATA|NOPTR, $%d\n", 16*len(constants))
}

// numbers is a kernel that needs constants: where they lie, and registers in passing.
type numbers struct {
	*asm
	table             gp
	n, p, t, u, small vec
}

func (a *asm) numbers() *numbers {
	x := &numbers{asm: a, table: a.gp(), n: a.vec(), p: a.vec(), t: a.vec(), u: a.vec(), small: a.vec()}
	a.op("MOVD $constants<>(SB), %v", x.table)
	return x
}

func (x *numbers) constant(c constant, v vec) {
	x.load(4, x.table, 16*slices.Index(constants, c), v)
}

// with is d = v op c.
func (x *numbers) with(i instruction, c constant, v, d vec) {
	x.constant(c, x.t)
	x.do(i, v, x.t, d)
}

// exp replaces v by eˣ, lane by lane: exp32 with fused multiply-adds. FMIN lets NaN through.
func (x *numbers) exp(v vec) {
	x.with(fmin, expTop, v, v)
	x.constant(expMin, x.t)
	x.do(fcmgt, x.t, v, x.small)
	x.with(fmul, log2e, v, x.n)
	x.convert(frintn, x.n, x.n)
	x.with(fmls, ln2Hi, x.n, v)
	x.with(fmls, ln2Lo, x.n, v)
	x.horner(expPoly, v)
	x.convert(fcvtns, x.n, x.n)
	x.scalePower(v)
}

// horner leaves in x.p the polynomial of v, highest power first.
func (x *numbers) horner(coefficients []constant, v vec) {
	x.constant(coefficients[0], x.p)
	for _, c := range coefficients[1:] {
		x.constant(c, x.t)
		x.do(fmla, x.p, v, x.t)
		x.p, x.t = x.t, x.p
	}
}

// scalePower is v = p·2ⁿ, or 0 in small lanes. In two steps, as 2ⁿ alone may overflow.
func (x *numbers) scalePower(v vec) {
	x.halve(x.n, x.t)
	x.op("VSUB %s, %s, %s", x.t.s4(), x.n.s4(), x.n.s4())
	x.constant(bias, x.u)
	for _, e := range []vec{x.t, x.n} {
		x.op("VADD %s, %s, %s", x.u.s4(), e.s4(), e.s4())
		x.op("VSHL $23, %s, %s", e.s4(), e.s4())
		x.do(fmul, x.p, e, x.p)
	}
	x.clearWhere(x.small, x.p, v)
}

// exponentials generates the loops around exp.
func (a *asm) exponentials() {
	a.expSum()
	a.sigmoid()
	a.slope()
	a.cdf()
}

// expSum keeps the lanes behind a single element out of the sum.
func (a *asm) expSum() {
	a.kernel("expSum", "y []float32, x []float32, shift float32", "float32", "path.expSum")
	n, in, out, shift := a.length("x"), a.base("x"), a.base("y"), a.spread("shift")
	sum, v := a.zeros(1)[0], a.vec()
	x := a.numbers()
	a.each(n, 1, func(p part, _ int) {
		a.loadPart(p, in, v)
		a.do(fsub, v, shift, v)
		x.exp(v)
		if p.n == 1 {
			a.op("FMOVS %s, %s", v.f(), v.f())
		}
		a.do(fadd, sum, v, sum)
		a.storePart(p, v, out)
	}, in, out)
	a.giveBack(a.fold([]vec{sum}, fadd, faddp))
}

func (a *asm) sigmoid() {
	a.kernel("sigmoid", "y []float32, x []float32, c1 float32, c3 float32", "", "path.sigmoid")
	n, in, out, c1, c3 := a.length("x"), a.base("x"), a.base("y"), a.spread("c1"), a.spread("c3")
	v := a.vec()
	x := a.numbers()
	a.each(n, 1, func(p part, _ int) {
		a.loadPart(p, in, v)
		x.sigmoidOf(v, c1, c3)
		a.storePart(p, v, out)
	}, in, out)
	a.ret()
}

// sigmoidOf replaces v by 1/(1+exp(-v·(c1+c3·v²))).
func (x *numbers) sigmoidOf(v, c1, c3 vec) {
	x.do(fmul, v, v, x.t)
	x.move(c1, x.n)
	x.do(fmla, x.t, c3, x.n)
	x.do(fmul, v, x.n, v)
	x.convert(fneg, v, v)
	x.exp(v)
	x.constant(one, x.t)
	x.do(fadd, v, x.t, v)
	x.do(fdiv, x.t, v, v)
}

// slope is s + s·(1-s)·x·(c1+3·c3·x²), s the sigmoid.
func (a *asm) slope() {
	a.kernel("slope", "y []float32, x []float32, c1 float32, c3 float32", "", "path.slope")
	n, in, out, c1, c3 := a.length("x"), a.base("x"), a.base("y"), a.spread("c1"), a.spread("c3")
	v, s, z := a.vec(), a.vec(), a.vec()
	x := a.numbers()
	a.each(n, 1, func(p part, _ int) {
		a.loadPart(p, in, v)
		a.move(v, s)
		x.sigmoidOf(s, c1, c3)
		a.do(fmul, v, v, z)
		x.with(fmul, three, z, z)
		a.move(c1, x.t)
		a.do(fmla, z, c3, x.t)
		a.do(fmul, v, x.t, z)
		a.do(fmul, z, s, z)
		a.move(z, v)
		a.do(fmls, z, s, v)
		a.do(fadd, s, v, v)
		a.storePart(p, v, out)
	}, in, out)
	a.ret()
}

func (a *asm) cdf() {
	a.kernel("cdf", "y []float32, x []float32", "", "path.cdf")
	n, in, out := a.length("x"), a.base("x"), a.base("y")
	v, z, e := a.vec(), a.vec(), a.vec()
	x := a.numbers()
	a.each(n, 1, func(p part, _ int) {
		a.loadPart(p, in, v)
		a.convert(fabs, v, z)
		x.with(fmul, half, z, e)
		a.do(fmul, e, z, e)
		x.exp(e)
		x.with(fadd, two, z, z)
		a.do(fdiv, x.t, z, z)
		x.with(fsub, middle, z, z)
		x.horner(cdfPoly, z)
		a.do(fmul, x.p, e, x.p)
		x.mirror(v)
		a.storePart(p, x.p, out)
	}, in, out)
	a.ret()
}

// mirror replaces p by 1-p in the lanes where v is above 0.
func (x *numbers) mirror(v vec) {
	x.zero(x.t)
	x.do(fcmgt, v, x.t, v)
	x.constant(one, x.t)
	x.do(fsub, x.t, x.p, x.t)
	x.op("VBIT %s, %s, %s", v.b16(), x.t.b16(), x.p.b16())
}
