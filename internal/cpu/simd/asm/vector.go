package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectors generates the elementwise loops and reductions.
func (s isa) vectors() {
	s.dot()
	s.sum()
	s.max()
	s.binary("add", VADDPS)
	s.binary("mul", VMULPS)
	s.axpy()
	s.mulAdd()
	s.scale()
	s.affine()
	s.rotate()
	s.adamw()
}

func (s isa) dot() {
	s.text("dot", "func(x, y []float32) float32", "%s is path.dot.")
	n, x, y := length("x"), pointer("x"), pointer("y")
	sums := s.group(4, zero)
	s.each(n, 4, func(m *mask, u int, at func(reg.Register) Mem) {
		v, w := s.loaded(m, at(x)), s.loaded(m, at(y))
		VFMADD231PS(w, v, sums[u])
	})
	s.result(s.fold(s.combine(sums, VADDPS), VADDPS))
}

// group returns n registers, each set up by init.
func (s isa) group(n int, init func(reg.Register)) []reg.VecVirtual {
	g := make([]reg.VecVirtual, n)
	for i := range g {
		g[i] = s.reg()
		init(g[i])
	}
	return g
}

func (s isa) combine(g []reg.VecVirtual, op func(...Op)) reg.VecVirtual {
	for len(g) > 1 {
		half := len(g) / 2
		for i := range half {
			op(g[i+half], g[i], g[i])
		}
		g = g[:half]
	}
	return g[0]
}

// result returns the lowest lane of x.
func (s isa) result(x reg.Register) {
	Store(x, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func (s isa) end() {
	VZEROUPPER()
	RET()
}

func (s isa) axpy() {
	s.text("axpy", "func(s float32, x, y []float32)", "%s is path.axpy.")
	n, x, y, f := length("x"), pointer("x"), pointer("y"), s.broadcast("s")
	s.each(n, 2, func(m *mask, u int, at func(reg.Register) Mem) {
		v, w := s.loaded(m, at(x)), s.loaded(m, at(y))
		VFMADD231PS(f, v, w)
		s.store(m, w, at(y))
	})
	s.end()
}

func (s isa) sum() {
	s.text("sum", "func(x []float32) float32", "%s is path.sum.")
	n, x := length("x"), pointer("x")
	sums := s.group(4, zero)
	s.each(n, 4, func(m *mask, u int, at func(reg.Register) Mem) {
		v := s.loaded(m, at(x))
		VADDPS(v, sums[u], sums[u])
	})
	s.result(s.fold(s.combine(sums, VADDPS), VADDPS))
}

func (s isa) binary(name string, op func(...Op)) {
	s.text(name, "func(z, x, y []float32)", "%s is path."+name+".")
	n, x, y, z := length("x"), pointer("x"), pointer("y"), pointer("z")
	s.each(n, 2, func(m *mask, u int, at func(reg.Register) Mem) {
		v, w := s.loaded(m, at(x)), s.loaded(m, at(y))
		op(w, v, v)
		s.store(m, v, at(z))
	})
	s.end()
}

func (s isa) mulAdd() {
	s.text("mulAdd", "func(s float32, x, y, z []float32)", "%s is path.mulAdd.")
	n, x, y, z, f := length("x"), pointer("x"), pointer("y"), pointer("z"), s.broadcast("s")
	s.each(n, 1, func(m *mask, u int, at func(reg.Register) Mem) {
		v, w, sum := s.reg(), s.reg(), s.reg()
		s.load(m, at(x), v)
		s.load(m, at(y), w)
		s.load(m, at(z), sum)
		VMULPS(f, v, v)
		VFMADD231PS(w, v, sum)
		s.store(m, sum, at(z))
	})
	s.end()
}

func (s isa) affine() {
	s.text("affine", "func(y, x []float32, s, t float32)", "%s is path.affine.")
	n, x, y, f, t := length("x"), pointer("x"), pointer("y"), s.broadcast("s"), s.broadcast("t")
	s.each(n, 2, func(m *mask, u int, at func(reg.Register) Mem) {
		v := s.loaded(m, at(x))
		VFMADD213PS(t, f, v)
		s.store(m, v, at(y))
	})
	s.end()
}

func (s isa) rotate() {
	s.text("rotate", "func(y0, y1, x0, x1, cos, sin []float32, s float32)", "%s is path.rotate.")
	n, x0, x1, y0, y1 := length("cos"), pointer("x0"), pointer("x1"), pointer("y0"), pointer("y1")
	cos, sin, f := pointer("cos"), pointer("sin"), s.broadcast("s")
	s.each(n, 1, func(m *mask, u int, at func(reg.Register) Mem) {
		a, b, c, t, y := s.reg(), s.reg(), s.reg(), s.reg(), s.reg()
		s.load(m, at(x0), a)
		s.load(m, at(x1), b)
		s.load(m, at(cos), c)
		s.load(m, at(sin), t)
		VMULPS(f, t, t)
		VMULPS(c, a, y)
		VFNMADD231PS(t, b, y)
		s.store(m, y, at(y0))
		VMULPS(c, b, b)
		VFMADD231PS(t, a, b)
		s.store(m, b, at(y1))
	})
	s.end()
}

func (s isa) scale() {
	s.text("scale", "func(x []float32, s float32)", "%s is path.scale.")
	n, x, f := length("x"), pointer("x"), s.broadcast("s")
	s.each(n, 2, func(m *mask, u int, at func(reg.Register) Mem) {
		v := s.loaded(m, at(x))
		VMULPS(f, v, v)
		s.store(m, v, at(x))
	})
	s.end()
}

func (s isa) max() {
	s.text("max", "func(x []float32) float32", "%s is path.max.")
	n, x := length("x"), pointer("x")
	lowest := s.reg()
	s.constant(minusInf, lowest)
	tops := s.group(4, func(r reg.Register) { VMOVAPS(lowest, r) })
	s.each(n, 4, func(m *mask, u int, at func(reg.Register) Mem) {
		v := s.reg()
		s.loadOr(m, at(x), lowest, v)
		VMAXPS(v, tops[u], tops[u])
	})
	s.result(s.fold(s.combine(tops, VMAXPS), VMAXPS))
}

// adamw follows adamwGo, field by field of AdamWConstants.
func (s isa) adamw() {
	s.text("adamw", "func(p, g, m, v []float32, s *float32)", "%s is path.adamw.")
	n, p, g, m1, v1 := length("p"), pointer("p"), pointer("g"), pointer("m"), pointer("v")
	constants := Load(Param("s"), GP64())
	var field [8]reg.VecVirtual
	for i := range field {
		field[i] = s.reg()
		VBROADCASTSS(Mem{Base: constants, Disp: 4 * i}, field[i])
	}
	gscale, keep, w1, beta2, w2, rsqrt, eps, lr := field[0], field[1], field[2], field[3], field[4], field[5], field[6], field[7]
	s.each(n, 1, func(m *mask, u int, at func(reg.Register) Mem) {
		d, avg, sq, x, t := s.reg(), s.reg(), s.reg(), s.reg(), s.reg()
		s.load(m, at(g), d)
		VMULPS(gscale, d, d)
		s.load(m, at(m1), avg)
		VSUBPS(avg, d, t)
		VFMADD231PS(t, w1, avg)
		s.store(m, avg, at(m1))
		s.load(m, at(v1), sq)
		VMULPS(beta2, sq, sq)
		VMULPS(w2, d, t)
		VFMADD231PS(t, d, sq)
		s.store(m, sq, at(v1))
		VSQRTPS(sq, sq)
		VMULPS(rsqrt, sq, sq)
		VADDPS(eps, sq, sq)
		VMULPS(lr, avg, avg)
		VDIVPS(sq, avg, avg)
		s.load(m, at(p), x)
		VMULPS(keep, x, x)
		VSUBPS(avg, x, x)
		s.store(m, x, at(p))
	})
	s.end()
}
