package main

// intsBlock is that of package simd.
const intsBlock = 32

const intsParameters = "rows int, n int, dst *float32, src *byte, ld int, scales *float32"

// ints generates the conversions of rows of integers.
func (a *asm) ints() {
	a.kernel("fromI8", intsParameters, "", "path.fromInts for I8")
	a.eachRow(func(dst, src gp, scale vec) {
		x := a.vec()
		for range intsBlock / 16 {
			a.loadOn(4, src, x)
			a.spreadBytes(x, scale, dst)
		}
	})
	a.kernel("fromI4", intsParameters, "", "path.fromInts for I4")
	a.eachRow(func(dst, src gp, scale vec) {
		x, y, eight := a.vec(), a.vec(), a.vec()
		a.op("VMOVI $8, %s", eight.b16())
		a.loadOn(4, src, x)
		a.op("VUSHR $4, %s, %s", x.b16(), y.b16())
		a.op("VSHL $4, %s, %s", x.b16(), x.b16())
		a.op("VUSHR $4, %s, %s", x.b16(), x.b16())
		for _, v := range []vec{x, y} {
			a.op("VSUB %s, %s, %s", eight.b16(), v.b16(), v.b16())
			a.spreadBytes(v, scale, dst)
		}
	})
}

// eachRow calls step for every block of every row, with the scale of the row.
func (a *asm) eachRow(step func(dst, src gp, scale vec)) {
	rows, dst, src, ld, scales := a.arg("rows"), a.arg("dst"), a.arg("src"), a.arg("ld"), a.arg("scales")
	left, at, scale := a.gp(), a.gp(), a.vec()
	a.label("row")
	a.op("VLD1R.P 4(%v), [%s]", scales, scale.s4())
	a.op("MOVD %v, %v", src, at)
	a.reload("n", left)
	a.label("block")
	step(dst, at, scale)
	a.op("SUBS $%d, %v, %v", intsBlock, left, left)
	a.op("BNE block")
	a.op("ADD %v, %v, %v", ld, src, src)
	a.op("SUBS $1, %v, %v", rows, rows)
	a.op("BNE row")
	a.ret()
}

// spreadBytes writes sixteen signed bytes times the scale.
func (a *asm) spreadBytes(x, scale vec, dst gp) {
	words, numbers := a.group(2), a.group(4)
	a.convert(sxtlBytes, x, words[0])
	a.convert(sxtlBytes2, x, words[1])
	for i, n := range numbers {
		a.convert([]conversion{sxtl, sxtl2}[i%2], words[i/2], n)
		a.convert(scvtf, n, n)
		a.do(fmul, n, scale, n)
	}
	for i := 0; i < 4; i += 2 {
		a.op("FSTPQ.P (%s, %s), 32(%v)", numbers[i].f(), numbers[i+1].f(), dst)
	}
	a.vecs -= 6
}
