package main

// panel generates the product that large matrices spend their time in: the rows of a whole tile times one packed panel of B
// after another. Meanwhile a row of the next panel of A is asked for.
func (a *asm) panel() {
	a.kernel("panel", "tiles int, k int, a *float32, ars int, acs int, b *float32, c *float32, ldc int, acc bool, ahead *float32", "",
		"path.panel")
	t := &tile{asm: a, m: mr, columns: nr, packed: true}
	tiles, ahead, soon := a.arg("tiles"), a.arg("ahead"), a.gp()
	t.loadArguments()
	t.ask = func() {
		t.op("PRFM (%v), PLDL1KEEP", soon)
		t.op("ADD $16, %v, %v", soon, soon)
	}
	a.label("tile")
	a.op("MOVD %v, %v", ahead, soon)
	a.op("ADD %v, %v, %v", t.ars, ahead, ahead)
	t.askForC()
	t.product()
	t.write()
	a.op("ADD $%d, %v, %v", 4*nr, t.c, t.c)
	a.reload("k", t.k)
	a.reload("a", t.a[0])
	t.findRows()
	a.op("SUBS $1, %v, %v", tiles, tiles)
	a.op("BNE tile")
	a.ret()
}

// askForC asks for C, which is needed last.
func (t *tile) askForC() {
	row := t.gp()
	t.op("MOVD %v, %v", t.c, row)
	for range t.m {
		t.op("PRFM (%v), PLDL1KEEP", row)
		t.op("ADD %v, %v, %v", t.ldc, row, row)
	}
}
