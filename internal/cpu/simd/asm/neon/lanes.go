package main

import "fmt"

// width is the lanes of AttentionKernels: four registers.
const width = 16

// laneKernels generates attention of one query, whose heads are rows.
func (a *asm) laneKernels() {
	for _, t := range []scoreTile{{rows: 1, keys: 16}, {rows: 2, keys: 8}, {rows: 4, keys: 16}, {rows: 8, keys: 8}, {rows: 16, keys: 4}} {
		t.asm = a
		t.generate()
	}
	for _, t := range []sumValuesTile{{rows: 1, h: 1, w: 32}, {rows: 2, h: 2, w: 32}, {rows: 4, h: 4, w: 16}, {rows: 8, h: 8, w: 8}} {
		t.asm = a
		t.generate()
	}
	a.maxLanes()
	a.expLanes()
}

// scoreTile is the product of a number of rows of queries with keys. With four rows or more, a lane is a row and multiplies
// with one element of a key after another; with fewer, a register holds four elements of one row, whose products are summed
// at the end.
type scoreTile struct {
	*asm
	rows, keys int
	sums       []vec // of a key side by side
	q, k       []vec
}

// across reports whether a lane is a row.
func (t *scoreTile) across() bool { return t.rows >= 4 }

// registers is how many hold what belongs together: an element of all rows, or four elements of each.
func (t *scoreTile) registers() int {
	if t.across() {
		return t.rows / 4
	}
	return t.rows
}

// generate writes the scores of n tiles of keys, four elements of each in a step.
func (t *scoreTile) generate() {
	t.kernel(fmt.Sprintf("score%d", t.rows), "n int, steps int, q *float32, k *float32, ldk int, s *float32, ahead *byte, from int, stride int", "",
		fmt.Sprintf("AttentionTile.Score for %d rows, %d keys at a time", t.rows, t.keys))
	n, out, q, steps, skip := t.arg("n"), t.arg("s"), t.gp(), t.gp(), t.gp()
	ahead, stride := t.lookahead()
	keys, ldk := []gp{t.arg("k")}, t.stride("ldk", 4)
	for i := 1; i < t.keys; i++ {
		keys = append(keys, t.gp())
		t.op("ADD %v, %v, %v", ldk, keys[i-1], keys[i])
	}
	t.toNextTile(ldk, steps, skip)
	t.sums, t.q, t.k = t.group(t.keys*t.registers()), t.group(t.registers()), t.group(min(t.keys, 8))
	t.label("tile")
	for _, sum := range t.sums {
		t.zero(sum)
	}
	t.reload("q", q)
	t.reload("steps", steps)
	t.label("loop")
	for i := 0; i < t.keys; i += len(t.k) {
		t.multiply(q, keys[i:][:len(t.k)], t.sums[i*t.registers():])
	}
	t.op("ADD $%d, %v, %v", 16*t.rows, q, q)
	t.prefetchAhead(ahead, stride, 4*t.keys)
	t.op("SUBS $1, %v, %v", steps, steps)
	t.op("BNE loop")
	t.storeSums(out)
	for _, key := range keys {
		t.op("ADD %v, %v, %v", skip, key, key)
	}
	t.op("SUBS $1, %v, %v", n, n)
	t.op("BNE tile")
	t.ret()
}

// toNextTile computes the bytes from the end of a key to the start of the one that lies a tile below.
func (t *scoreTile) toNextTile(ldk, steps, skip gp) {
	t.reload("steps", steps)
	t.op("MOVD $%d, %v", t.keys, skip)
	t.op("MUL %v, %v, %v", ldk, skip, skip)
	t.op("SUB %v<<4, %v, %v", steps, skip, skip)
}

// multiply adds four elements of some keys times those of the queries to the sums.
func (t *scoreTile) multiply(q gp, keys []gp, sums []vec) {
	for i, key := range keys {
		t.loadOn(4, key, t.k[i])
	}
	r := t.registers()
	if !t.across() {
		t.loadQueries(q, 0)
		for i := range keys {
			for v, x := range t.q {
				t.do(fmla, x, t.k[i], sums[i*r+v])
			}
		}
		return
	}
	for element := range 4 {
		t.loadQueries(q, element)
		for i := range keys {
			for v, x := range t.q {
				t.multiplyAddLane(x, t.k[i], element, sums[i*r+v])
			}
		}
	}
}

// loadQueries loads the i-th group of registers from q.
func (t *scoreTile) loadQueries(q gp, i int) {
	for v, x := range t.q {
		t.load(4, q, 16*(i*len(t.q)+v), x)
	}
}

// storeSums stores a lane for each key and row, for which it sums the lanes of a register if they belong to one row.
func (t *scoreTile) storeSums(out gp) {
	sums := t.sums
	for n := t.keys * t.rows / 4; len(sums) > n; sums = sums[:len(sums)/2] {
		for i := range len(sums) / 2 {
			t.do(faddp, sums[2*i], sums[2*i+1], sums[i])
		}
	}
	for i := 0; i < len(sums); i += 2 {
		t.op("FSTPQ.P (%s, %s), 32(%v)", sums[i].f(), sums[i+1].f(), out)
	}
}

// lookahead returns the address to prefetch next and the step from one to the next. The sum is made here because a Go pointer
// must not leave what it points into.
func (a *asm) lookahead() (ahead, stride gp) {
	ahead, stride = a.arg("ahead"), a.gp()
	a.reload("from", stride)
	a.op("ADD %v, %v, %v", stride, ahead, ahead)
	a.reload("stride", stride)
	return ahead, stride
}

// prefetchAhead prefetches a number of elements, 16 at a time.
func (a *asm) prefetchAhead(ahead, stride gp, elements int) {
	for range max(1, elements/16) {
		a.op("PRFM (%v), PLDL2KEEP", ahead)
		a.op("ADD %v, %v, %v", stride, ahead, ahead)
	}
}

// sumValuesTile is the product of h of a number of rows of weights with w columns of values.
type sumValuesTile struct {
	*asm
	rows, h, w   int
	p, v         gp
	ldp, ldv     gp
	ahead, apart gp
	sums, values []vec
	weights      []vec
}

// generate writes O[h,w] += P·V for h rows of P, stored [keys, rows], and w columns of V.
func (t *sumValuesTile) generate() {
	t.kernel(fmt.Sprintf("sumValues%d", t.rows), "n int, p *float32, ldp int, v *float32, ldv int, o *float32, ldo int, ahead *byte, from int, stride int", "",
		fmt.Sprintf("AttentionTile.SumValues for %d rows and %d columns", t.h, t.w))
	n, o, ldo := t.arg("n"), t.arg("o"), t.stride("ldo", 4)
	t.p, t.ldp, t.v, t.ldv = t.arg("p"), t.stride("ldp", 4), t.arg("v"), t.stride("ldv", 4)
	t.ahead, t.apart = t.lookahead()
	t.sums, t.values, t.weights = t.asm.group(t.h*t.w/4), t.asm.group(t.w/4), t.asm.group(max(1, t.h/4))
	t.eachPair(o, ldo, "FLDPQ %[3]d(%[4]v), (%[1]s, %[2]s)")
	t.loop("pair", n, 2, func() {
		t.step()
		t.step()
	})
	t.loop("last", n, 1, t.step)
	t.eachPair(o, ldo, "FSTPQ (%[1]s, %[2]s), %[3]d(%[4]v)")
	t.ret()
}

// eachPair moves two registers of O at a time.
func (t *sumValuesTile) eachPair(o, ldo gp, move string) {
	row, w := t.gp(), t.w/4
	t.op("MOVD %v, %v", o, row)
	for i := range t.h {
		for j := 0; j < w; j += 2 {
			t.op(move, t.sums[i*w+j].f(), t.sums[i*w+j+1].f(), 16*j, row)
		}
		t.op("ADD %v, %v, %v", ldo, row, row)
	}
}

// step adds the products of one key.
func (t *sumValuesTile) step() {
	for i, x := range t.weights {
		t.load(min(4, t.h), t.p, 16*i, x)
	}
	for j := 0; j < len(t.values); j += 2 {
		t.op("FLDPQ %d(%v), (%s, %s)", 16*j, t.v, t.values[j].f(), t.values[j+1].f())
	}
	t.op("ADD %v, %v, %v", t.ldp, t.p, t.p)
	t.op("ADD %v, %v, %v", t.ldv, t.v, t.v)
	t.prefetchAhead(t.ahead, t.apart, t.w*t.h/t.rows)
	for i := range t.h {
		for j, v := range t.values {
			t.multiplyAddLane(v, t.weights[i/4], i%4, t.sums[i*len(t.values)+j])
		}
	}
}

// maxLanes is top[i] = max(top[i], s[i], s[i+width] …).
func (a *asm) maxLanes() {
	a.kernel("maxLanes", "s []float32, top *float32", "", "AttentionKernels.Max for a multiple of 16")
	n, x, top := a.length("s"), a.base("s"), a.arg("top")
	tops, v := a.group(width/4), a.vec()
	for i, t := range tops {
		a.load(4, top, 16*i, t)
	}
	a.loop("loop", n, width, func() {
		for _, t := range tops {
			a.loadOn(4, x, v)
			a.do(fmax, t, v, t)
		}
	})
	for i, t := range tops {
		a.store(4, t, top, 16*i)
	}
	a.ret()
}

// expLanes is s = exp(s - top), lane by lane, and sum[i] += s[i] + s[i+width] ….
func (a *asm) expLanes() {
	a.kernel("expLanes", "s []float32, top *float32, sum *float32", "", "AttentionKernels.Exp for a multiple of 16")
	n, s, top, sum := a.length("s"), a.base("s"), a.arg("top"), a.arg("sum")
	tops, sums, v := a.group(width/4), a.group(width/4), a.vec()
	x := a.numbers()
	for i := range tops {
		a.load(4, top, 16*i, tops[i])
		a.load(4, sum, 16*i, sums[i])
	}
	a.loop("loop", n, width, func() {
		for i := range tops {
			a.load(4, s, 0, v)
			a.do(fsub, v, tops[i], v)
			x.exp(v)
			a.do(fadd, sums[i], v, sums[i])
			a.op("FMOVQ.P %s, 16(%v)", v.f(), s)
		}
	})
	for i := range sums {
		a.store(4, sums[i], sum, 16*i)
	}
	a.ret()
}
