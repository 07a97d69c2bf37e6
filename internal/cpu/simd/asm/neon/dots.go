package main

import "fmt"

// format is a format of numbers in memory. widen converts one register of 8 to two of float32; it is nil for float32 itself.
type format struct {
	name, element, note string
	size                int
	widen               func(a *asm, from, low, high vec)
}

var formats = []format{
	{"", "float32", "", 4, nil},
	{"BF16", "uint16", ", a multiple of 8 long", 2, func(a *asm, from, low, high vec) {
		a.shiftUp16(false, from, low)
		a.shiftUp16(true, from, high)
	}},
	{"F16", "uint16", ", a multiple of 8 long", 2, func(a *asm, from, low, high vec) {
		a.convert(fcvtl, from, low)
		a.convert(fcvtl2, from, high)
	}},
}

// dots generates the products of up to four rows of A with four of B, which are of a format.
func (a *asm) dots() {
	for _, f := range formats {
		for h := 1; h <= 4; h++ {
			a.dotTile(h, f)
		}
	}
}

// dotTile is such a product in work. A step takes up to two registers of each row.
type dotTile struct {
	*asm
	format
	h             int
	a, b          []gp
	lda, ldb      gp
	sums, x, y    []vec
	encoded, unit vec // 8 of 16 bits; alpha
}

func (a *asm) dotTile(h int, f format) {
	a.kernel(fmt.Sprintf("dots%dx4%s", h, f.name), "n int, k int, a *float32, lda int, b *"+f.element+
		", ldb int, alpha float32, c *float32, ldc int, acc bool", "", fmt.Sprintf("GemmKernels.Dots for %d rows of A and 4 of B%s", h, f.note))
	t := &dotTile{asm: a, format: f, h: h}
	n, k, b := a.arg("n"), a.gp(), a.arg("b")
	t.lda, t.ldb = a.stride("lda", 4), a.stride("ldb", f.size)
	for range h {
		t.a = append(t.a, a.gp())
	}
	for range 4 {
		t.b = append(t.b, a.gp())
	}
	t.sums, t.x, t.y, t.encoded, t.unit = a.group(4*h), a.group(2*h), a.group(2), a.vec(), a.spread("alpha")
	c, ldc, acc := a.arg("c"), a.stride("ldc", 4), a.gp()
	a.op("MOVBU %s, %v", a.address("acc"), acc)
	a.label("tile")
	t.begin(b)
	a.reload("k", k)
	a.loop("eight", k, 8, func() { t.step(8) })
	if f.widen == nil {
		a.loop("four", k, 4, func() { t.step(4) })
		a.loop("single", k, 1, func() { t.step(1) })
	}
	t.reduce()
	t.write(c, ldc, acc)
	a.op("ADD $16, %v, %v", c, c)
	a.op("ADD %v<<2, %v, %v", t.ldb, b, b)
	a.op("SUBS $4, %v, %v", n, n)
	a.op("BNE tile")
	a.ret()
}

// begin clears the sums and goes to the start of the rows of A and of those of B from b on.
func (t *dotTile) begin(b gp) {
	for _, v := range t.sums {
		t.zero(v)
	}
	t.reload("a", t.a[0])
	for i := 1; i < t.h; i++ {
		t.op("ADD %v, %v, %v", t.lda, t.a[i-1], t.a[i])
	}
	t.op("MOVD %v, %v", b, t.b[0])
	for j := 1; j < 4; j++ {
		t.op("ADD %v, %v, %v", t.ldb, t.b[j-1], t.b[j])
	}
}

// step adds the products of n elements of each row: 8, 4 or 1.
func (t *dotTile) step(n int) {
	for i, row := range t.a {
		t.next(n, row, t.x[2*i:])
	}
	for j, row := range t.b {
		if t.widen != nil {
			t.loadOn(4, row, t.encoded)
			t.widen(t.asm, t.encoded, t.y[0], t.y[1])
		} else {
			t.next(n, row, t.y)
		}
		for part := range max(1, n/4) {
			for i := range t.h {
				t.do(fmla, t.x[2*i+part], t.y[part], t.sums[4*i+j])
			}
		}
	}
}

// next loads n elements and moves on.
func (t *dotTile) next(n int, row gp, v []vec) {
	if n == 8 {
		t.op("FLDPQ.P 32(%v), (%s, %s)", row, v[0].f(), v[1].f())
	} else {
		t.loadOn(n, row, v[0])
	}
}

// reduce sums the lanes of the four registers of a row of C into its first, and scales them by alpha.
func (t *dotTile) reduce() {
	for i := range t.h {
		s := t.sums[4*i:][:4]
		t.do(faddp, s[0], s[1], s[0])
		t.do(faddp, s[2], s[3], s[2])
		t.do(faddp, s[0], s[2], s[0])
		t.do(fmul, s[0], t.unit, s[0])
	}
}

// write stores the sums to C, after adding what is there if acc.
func (t *dotTile) write(c, ldc, acc gp) {
	row := t.b[0]
	t.op("CBZ %v, store", acc)
	t.op("MOVD %v, %v", c, row)
	for i := range t.h {
		t.load(4, row, 0, t.y[0])
		t.do(fadd, t.y[0], t.sums[4*i], t.sums[4*i])
		t.op("ADD %v, %v, %v", ldc, row, row)
	}
	t.label("store")
	t.op("MOVD %v, %v", c, row)
	for i := range t.h {
		t.store(4, t.sums[4*i], row, 0)
		t.op("ADD %v, %v, %v", ldc, row, row)
	}
}
