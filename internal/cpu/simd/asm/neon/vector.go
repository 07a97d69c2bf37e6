package main

// vectors generates the elementwise loops and reductions.
func (a *asm) vectors() {
	a.dot()
	a.sum()
	a.max()
	a.binary("add", fadd)
	a.binary("mul", fmul)
	a.axpy()
	a.mulAdd()
	a.scale()
	a.affine()
	a.rotate()
	a.adamw()
}

func (a *asm) zeros(n int) []vec {
	g := a.group(n)
	for _, v := range g {
		a.zero(v)
	}
	return g
}

// fold reduces registers to the lowest lane of the first: between registers by op, between neighbouring lanes by pairs.
func (a *asm) fold(g []vec, op, pairs instruction) vec {
	for ; len(g) > 1; g = g[:len(g)/2] {
		half := len(g) / 2
		for i := range half {
			a.do(op, g[i], g[i+half], g[i])
		}
	}
	a.do(pairs, g[0], g[0], g[0])
	a.do(pairs, g[0], g[0], g[0])
	return g[0]
}

func (a *asm) dot() {
	a.kernel("dot", "x []float32, y []float32", "float32", "path.dot")
	n, x, y := a.length("x"), a.base("x"), a.base("y")
	sums, v, w := a.zeros(4), a.group(4), a.group(4)
	a.each(n, 4, func(p part, u int) {
		a.loadPart(p, x, v[u])
		a.loadPart(p, y, w[u])
		a.do(fmla, v[u], w[u], sums[u])
	}, x, y)
	a.giveBack(a.fold(sums, fadd, faddp))
}

func (a *asm) sum() {
	a.kernel("sum", "x []float32", "float32", "path.sum")
	n, x := a.length("x"), a.base("x")
	sums, v := a.zeros(4), a.group(4)
	a.each(n, 4, func(p part, u int) {
		a.loadPart(p, x, v[u])
		a.do(fadd, sums[u], v[u], sums[u])
	}, x)
	a.giveBack(a.fold(sums, fadd, faddp))
}

// max begins with the first element in all lanes; a single one is compared in all lanes, too.
func (a *asm) max() {
	a.kernel("max", "x []float32", "float32", "path.max")
	n, x := a.length("x"), a.base("x")
	tops, v := a.group(4), a.group(4)
	for _, top := range tops {
		a.op("VLD1R (%v), [%s]", x, top.s4())
	}
	a.each(n, 4, func(p part, u int) {
		if p.n == 4 {
			a.loadPart(p, x, v[u])
		} else {
			a.op("VLD1R (%v), [%s]", x, v[u].s4())
		}
		a.do(fmax, tops[u], v[u], tops[u])
	}, x)
	a.giveBack(a.fold(tops, fmax, fmaxp))
}

func (a *asm) binary(name string, op instruction) {
	a.kernel(name, "z []float32, x []float32, y []float32", "", "path."+name)
	n, x, y, z := a.length("x"), a.base("x"), a.base("y"), a.base("z")
	v, w := a.group(4), a.group(4)
	a.each(n, 4, func(p part, u int) {
		a.loadPart(p, x, v[u])
		a.loadPart(p, y, w[u])
		a.do(op, v[u], w[u], v[u])
		a.storePart(p, v[u], z)
	}, x, y, z)
	a.ret()
}

func (a *asm) axpy() {
	a.kernel("axpy", "s float32, x []float32, y []float32", "", "path.axpy")
	n, x, y, s := a.length("x"), a.base("x"), a.base("y"), a.spread("s")
	v, w := a.group(4), a.group(4)
	a.each(n, 4, func(p part, u int) {
		a.loadPart(p, x, v[u])
		a.loadPart(p, y, w[u])
		a.do(fmla, v[u], s, w[u])
		a.storePart(p, w[u], y)
	}, x, y)
	a.ret()
}

func (a *asm) mulAdd() {
	a.kernel("mulAdd", "s float32, x []float32, y []float32, z []float32", "", "path.mulAdd")
	n, x, y, z, s := a.length("x"), a.base("x"), a.base("y"), a.base("z"), a.spread("s")
	v, w, sum := a.group(2), a.group(2), a.group(2)
	a.each(n, 2, func(p part, u int) {
		a.loadPart(p, x, v[u])
		a.loadPart(p, y, w[u])
		a.loadPart(p, z, sum[u])
		a.do(fmul, v[u], s, v[u])
		a.do(fmla, v[u], w[u], sum[u])
		a.storePart(p, sum[u], z)
	}, x, y, z)
	a.ret()
}

func (a *asm) scale() {
	a.kernel("scale", "x []float32, s float32", "", "path.scale")
	n, x, s := a.length("x"), a.base("x"), a.spread("s")
	v := a.group(4)
	a.each(n, 4, func(p part, u int) {
		a.loadPart(p, x, v[u])
		a.do(fmul, v[u], s, v[u])
		a.storePart(p, v[u], x)
	}, x)
	a.ret()
}

func (a *asm) affine() {
	a.kernel("affine", "y []float32, x []float32, s float32, t float32", "", "path.affine")
	n, x, y, s, t := a.length("x"), a.base("x"), a.base("y"), a.spread("s"), a.spread("t")
	v, w := a.group(4), a.group(4)
	a.each(n, 4, func(p part, u int) {
		a.loadPart(p, x, v[u])
		a.move(t, w[u])
		a.do(fmla, v[u], s, w[u])
		a.storePart(p, w[u], y)
	}, x, y)
	a.ret()
}

func (a *asm) rotate() {
	a.kernel("rotate", "y0 []float32, y1 []float32, x0 []float32, x1 []float32, cos []float32, sin []float32, s float32", "", "path.rotate")
	n, x0, x1, y0, y1 := a.length("cos"), a.base("x0"), a.base("x1"), a.base("y0"), a.base("y1")
	cos, sin, s := a.base("cos"), a.base("sin"), a.spread("s")
	u, v, c, t, y := a.vec(), a.vec(), a.vec(), a.vec(), a.vec()
	a.each(n, 1, func(p part, _ int) {
		a.loadPart(p, x0, u)
		a.loadPart(p, x1, v)
		a.loadPart(p, cos, c)
		a.loadPart(p, sin, t)
		a.do(fmul, t, s, t)
		a.do(fmul, u, c, y)
		a.do(fmls, v, t, y)
		a.storePart(p, y, y0)
		a.do(fmul, v, c, y)
		a.do(fmla, u, t, y)
		a.storePart(p, y, y1)
	}, x0, x1, y0, y1, cos, sin)
	a.ret()
}

// adamw follows adamwGo, field by field of AdamWConstants.
func (a *asm) adamw() {
	a.kernel("adamw", "p []float32, g []float32, m []float32, v []float32, s *float32", "", "path.adamw")
	n, param, g, m, v, s := a.length("p"), a.base("p"), a.base("g"), a.base("m"), a.base("v"), a.arg("s")
	field := a.group(8)
	for _, f := range field {
		a.op("VLD1R.P 4(%v), [%s]", s, f.s4())
	}
	gscale, keep, w1, beta2, w2, rsqrt, eps, lr := field[0], field[1], field[2], field[3], field[4], field[5], field[6], field[7]
	d, avg, sq, x, t := a.vec(), a.vec(), a.vec(), a.vec(), a.vec()
	a.each(n, 1, func(p part, _ int) {
		a.loadPart(p, g, d)
		a.do(fmul, d, gscale, d)
		a.loadPart(p, m, avg)
		a.do(fsub, d, avg, t)
		a.do(fmla, t, w1, avg)
		a.storePart(p, avg, m)
		a.loadPart(p, v, sq)
		a.do(fmul, sq, beta2, sq)
		a.do(fmul, d, w2, t)
		a.do(fmla, t, d, sq)
		a.storePart(p, sq, v)
		a.convert(fsqrt, sq, sq)
		a.move(eps, t)
		a.do(fmla, sq, rsqrt, t)
		a.do(fmul, avg, lr, avg)
		a.do(fdiv, avg, t, avg)
		a.loadPart(p, param, x)
		a.do(fmul, x, keep, x)
		a.do(fsub, x, avg, x)
		a.storePart(p, x, param)
	}, param, g, m, v)
	a.ret()
}
