package nn

import (
	"math"
	"unsafe"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// amxSlack is how far scores may be above a row's top before the top is raised, so that sums are rarely rescaled. Weights relative to
// the top are at most e to this power.
const amxSlack = 8

// amxRows is the fewest rows that simd.AMXKernels.Attend takes.
const amxRows = 8

// amxWork is what attention by matrix instructions has beside laneWork.
type amxWork struct {
	simd.AMXAttention
	all  []float32 // memory of the state
	last []uint16  // keys, then values, of an incomplete group, padded
}

// fitsAMX reports whether a tile that fits lanes suits matrix instructions, too. A single row is as fast in lanes.
func (f *forward) fitsAMX(w *work) bool {
	return simd.AMX() != nil && f.k.Format == simd.BF16 && f.v.Format == simd.BF16 && w.rows > 1 && f.HeadDim%simd.AMXColumns == 0 && f.valueDim() == f.HeadDim
}

// attendAMX is attendLanes with products by matrix instructions.
func (f *forward) attendAMX(w *work) {
	f.beginAMX(w)
	n, d := (w.to-w.from)/simd.AMXDepth*simd.AMXDepth, f.HeadDim
	if n > 0 {
		k, v := f.k.index(w.b, w.kv, w.from), f.v.index(w.b, w.kv, w.from)
		f.attendGroups(w, n, f.k.Half[k:], f.k.Row, f.v.Half[v:], f.v.Row)
	}
	if rest := w.to - w.from - n; rest > 0 {
		k, v := f.k.index(w.b, w.kv, w.from+n), f.v.index(w.b, w.kv, w.from+n)
		last := w.amx.last
		pad(last[:simd.AMXDepth*d], d, f.k.Half[k:], f.k.Row, rest)
		pad(last[simd.AMXDepth*d:], d, f.v.Half[v:], f.v.Row, rest)
		f.attendGroups(w, rest, last, d, last[simd.AMXDepth*d:], d)
	}
	for r := range w.rows {
		simd.Unshuffle(w.o[r*d:][:d])
	}
	f.endLanes(w)
}

// beginAMX allocates the state, and splits the queries unless the previous task had the same.
func (f *forward) beginAMX(w *work) {
	f.clearLanes(w, max(w.rows, amxRows))
	w.limitScores()
	d, rows, t := f.HeadDim, w.lanes.Rows, &w.amx
	t.layOut(rows, d)
	if !w.fresh {
		return
	}
	w.s = memory.Grow(w.s, rows*d) // the queries of all rows, some of which may be none
	clear(w.s[copy(w.s, w.q[:w.rows*d]):])
	simd.AMX().SplitRows(rows, d, 0, d, w.s, d, t.Q, t.Pairs[:3*rows*d/2])
}

// layOut divides memory that begins at a cache line.
func (t *amxWork) layOut(rows, d int) {
	const line = 16
	group := simd.AMXDepth * rows
	pairs := max(simd.AMXDepth*d/2, 3*rows*d/2)
	t.all = memory.Grow(t.all, line+3*rows*d/2+2*group+3*group/2+pairs)
	rest := t.all[int(-uintptr(unsafe.Pointer(&t.all[0]))/4%line):]
	take := func(n int) []float32 {
		s := rest[:n:n]
		rest = rest[n:]
		return s
	}
	t.Q, t.S[0], t.S[1], t.P, t.Pairs = take(3*rows*d/2), take(group), take(group), take(3*group/2), take(pairs)
	if cap(t.last) < 2*simd.AMXDepth*d {
		t.last = make([]uint16, 2*simd.AMXDepth*d)
	}
	t.last = t.last[:2*simd.AMXDepth*d]
}

// attendGroups is attendAMX for n keys: groups of AMXDepth, or a single incomplete group that k and v have padded.
func (f *forward) attendGroups(w *work, n int, k []uint16, ldk int, v []uint16, ldv int) {
	d, t, rows := f.HeadDim, &w.amx, w.lanes.Rows
	simd.AMX().Dots(simd.AMXDepth, d, rows, k, ldk, t.Q, t.Scores(), simd.Prefetch{Base: (*byte)(unsafe.Pointer(&k[0]))})
	if n < simd.AMXDepth {
		fill(t.Scores()[n*rows:], float32(math.Inf(-1)))
	}
	for groups := pool.CeilDiv(n, simd.AMXDepth); groups > 0; {
		left := simd.AMX().Attend(&t.AMXAttention, rows, d, groups, k, ldk, v, ldv, &w.lanes.top, &w.lanes.sum, w.o)
		if left > 0 {
			w.raise(d, t.Scores())
			w.limitScores()
			done := (groups - left) * simd.AMXDepth
			k, v = k[done*ldk:], v[done*ldv:]
		}
		groups = left
	}
}

// limitScores sets the limit of scores from the tops.
func (w *work) limitScores() {
	for i, top := range w.lanes.top {
		w.amx.Limit[i] = top + amxSlack
	}
}

// pad copies n rows of d elements to dst, and clears the rows behind them.
func pad(dst []uint16, d int, src []uint16, ld, n int) {
	for r := range n {
		copy(dst[r*d:][:d], src[r*ld:][:d])
	}
	clear(dst[n*d:])
}
