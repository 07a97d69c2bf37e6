package main

import "fmt"

// A tile has up to mr rows and nr columns: 24 registers of sums, 6 for A, 2 for B.
const (
	mr = 6
	nr = 16
)

// micros generates the tiles of a product: every number of rows, columns in powers of two.
func (a *asm) micros() {
	for columns := nr; columns > 0; columns /= 2 {
		for m := 1; m <= mr; m++ {
			a.micro(m, columns)
		}
	}
}

// tile is a product in work.
type tile struct {
	*asm
	m, columns      int
	a               []gp // rows of A
	ars, acs, b, bs gp   // bs is not used where B is packed
	c, ldc, acc, k  gp
	packed          bool // rows of B lie one behind another
}

const vectorOfA, vectorOfB vec = 24, 30

func (t *tile) vectors() int     { return max(1, t.columns/4) }
func (t *tile) sum(i, j int) vec { return vec(i*t.vectors() + j) }

func (a *asm) micro(m, columns int) {
	a.kernel(fmt.Sprintf("micro%dx%d", m, columns),
		"k int, a *float32, ars int, acs int, b *float32, bs int, c *float32, ldc int, acc bool", "",
		fmt.Sprintf("GemmKernels.Micro for %d rows and %d columns", m, columns))
	t := &tile{asm: a, m: m, columns: columns}
	t.loadArguments()
	t.product()
	t.write()
	a.ret()
}

func (t *tile) loadArguments() {
	t.k, t.ars, t.acs = t.arg("k"), t.stride("ars", 4), t.stride("acs", 4)
	t.a = []gp{t.arg("a")}
	for i := 1; i < t.m; i++ {
		t.a = append(t.a, t.gp())
		t.op("ADD %v, %v, %v", t.ars, t.a[i-1], t.a[i])
	}
	t.b, t.bs, t.c, t.ldc, t.acc = t.arg("b"), t.stride("bs", 4), t.arg("c"), t.stride("ldc", 4), t.gp()
	t.op("MOVBU %s, %v", t.address("acc"), t.acc)
}

// product sums into the registers. A is read in one of three ways: four elements of each row at a time, all rows' elements
// of a column at once where they are neighbours, or element by element, which ends the first.
func (t *tile) product() {
	t.clear()
	t.op("CMP $4, %v", t.acs)
	t.op("BNE columns")
	t.loop("rows", t.k, 4, func() {
		for i, row := range t.a {
			t.loadOn(4, row, vectorOfA+vec(i))
		}
		for p := range 4 {
			t.step(func(i int) (vec, int) { return vectorOfA + vec(i), p })
		}
	})
	t.op("CBZ %v, done", t.k)
	t.op("JMP elements")
	t.label("columns")
	t.op("CMP $4, %v", t.ars)
	t.op("BNE elements")
	t.label("column")
	t.column()
	t.op("SUBS $1, %v, %v", t.k, t.k)
	t.op("BNE column")
	t.op("JMP done")
	t.label("elements")
	for i, row := range t.a {
		t.load(1, row, 0, vectorOfA+vec(i))
		t.op("ADD %v, %v, %v", t.acs, row, row)
	}
	t.step(func(i int) (vec, int) { return vectorOfA + vec(i), 0 })
	t.op("SUBS $1, %v, %v", t.k, t.k)
	t.op("BNE elements")
	t.label("done")
}

func (t *tile) clear() {
	for i := range t.m * t.vectors() {
		t.zero(vec(i))
	}
}

// columnParts cuts a column's elements, which are neighbours, into loads: a register each.
func (t *tile) columnParts() (sizes []int) {
	for left, n := t.m, 4; left > 0; n /= 2 {
		if left >= n {
			sizes = append(sizes, n)
			left -= n
		}
	}
	return sizes
}

// column is a step whose elements of A are neighbours.
func (t *tile) column() {
	type place struct {
		v    vec
		lane int
	}
	var places []place
	for p, n := range t.columnParts() {
		v := vectorOfA + vec(p)
		t.load(n, t.a[0], 4*len(places), v)
		for lane := range n {
			places = append(places, place{v, lane})
		}
	}
	t.op("ADD %v, %v, %v", t.acs, t.a[0], t.a[0])
	t.step(func(i int) (vec, int) { return places[i].v, places[i].lane })
}

// step adds the products of one row of B, of which element gives the factors: a lane of a register for each row.
func (t *tile) step(element func(i int) (vec, int)) {
	for j := 0; j < t.vectors(); j += 2 {
		n := t.loadB(j)
		for i := range t.m {
			v, lane := element(i)
			for half := range n {
				t.multiplyAddLane(vectorOfB+vec(half), v, lane, t.sum(i, j+half))
			}
		}
	}
	if !t.packed {
		t.op("ADD %v, %v, %v", t.bs, t.b, t.b)
	}
}

// loadB loads one or two registers of B, and returns how many.
func (t *tile) loadB(j int) int {
	low, high := vectorOfB.f(), (vectorOfB + 1).f()
	switch {
	case t.packed:
		t.op("FLDPQ.P 32(%v), (%s, %s)", t.b, low, high)
	case t.columns >= 8:
		t.op("FLDPQ %d(%v), (%s, %s)", 16*j, t.b, low, high)
	default:
		t.load(t.columns, t.b, 0, vectorOfB)
		return 1
	}
	return 2
}

// write stores the sums to C, after adding what is there if acc.
func (t *tile) write() {
	row := t.gp()
	t.op("CBZ %v, store", t.acc)
	t.op("MOVD %v, %v", t.c, row)
	for i := range t.m {
		for j := range t.vectors() {
			t.load(min(4, t.columns), row, 16*j, vectorOfB+vec(j%2))
			t.do(fadd, vectorOfB+vec(j%2), t.sum(i, j), t.sum(i, j))
		}
		t.op("ADD %v, %v, %v", t.ldc, row, row)
	}
	t.label("store")
	t.op("MOVD %v, %v", t.c, row)
	for i := range t.m {
		for j := range t.vectors() {
			t.store(min(4, t.columns), t.sum(i, j), row, 16*j)
		}
		t.op("ADD %v, %v, %v", t.ldc, row, row)
	}
}
