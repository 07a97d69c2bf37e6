package main

// panel generates the product that large matrices spend their time in: a packed panel of A, the rows of a whole tile, times
// one packed panel of B after another. Meanwhile it prefetches a row of A that is packed next.
func (a *asm) panel() {
	a.kernel("panel", "panels int, k int, a *float32, b *float32, c *float32, ldc int, acc bool, ahead *float32, lda int", "", "GemmKernels.Panel")
	t := &tile{asm: a, m: mr, columns: nr, packed: true}
	panels, ahead, lda, soon := a.arg("panels"), a.arg("ahead"), a.stride("lda", 4), a.gp()
	t.k, t.a, t.b, t.acs = a.gp(), []gp{a.gp()}, a.arg("b"), a.gp()
	t.c, t.ldc, t.acc = a.arg("c"), a.stride("ldc", 4), a.gp()
	a.op("MOVD $%d, %v", 4*mr, t.acs)
	a.op("MOVBU %s, %v", a.address("acc"), t.acc)
	a.label("tile")
	a.reload("k", t.k)
	a.reload("a", t.a[0])
	a.op("MOVD %v, %v", ahead, soon)
	a.op("ADD %v, %v, %v", lda, ahead, ahead)
	t.prefetchC()
	t.clear()
	a.loop("four", t.k, 4, func() {
		a.op("PRFM (%v), PLDL1KEEP", soon)
		a.op("ADD $16, %v, %v", soon, soon)
		t.fourSteps()
	})
	a.loop("single", t.k, 1, t.column)
	t.write()
	a.op("ADD $%d, %v, %v", 4*nr, t.c, t.c)
	a.op("SUBS $1, %v, %v", panels, panels)
	a.op("BNE tile")
	a.ret()
}

// prefetchC prefetches C, which is needed last.
func (t *tile) prefetchC() {
	row := t.gp()
	t.op("MOVD %v, %v", t.c, row)
	for range t.m {
		t.op("PRFM (%v), PLDL1KEEP", row)
		t.op("ADD %v, %v, %v", t.ldc, row, row)
	}
}

// fourSteps loads four columns of the packed A, which fill as many registers as there are rows, and goes through them.
func (t *tile) fourSteps() {
	for i := 0; i < t.m; i += 2 {
		v := vectorOfA + vec(i)
		t.op("FLDPQ.P 32(%v), (%s, %s)", t.a[0], v.f(), (v + 1).f())
	}
	for p := range 4 {
		t.step(func(i int) (vec, int) {
			at := p*t.m + i
			return vectorOfA + vec(at/4), at % 4
		})
	}
}
