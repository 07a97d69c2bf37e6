package nn

import (
	"math"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// laneElements is about how many elements of K, and of V, are processed at a time, and laneScores the most scores: long runs of each,
// because reading elsewhere in memory is slow to start. They are twice as long with simd.HardwarePrefetch.
const (
	laneElements = 1 << 16
	laneScores   = 1 << 12
)

// fitsLanes reports whether the tile suits simd.AttentionKernels: it has one query, so that all rows see the same keys.
func (f *forward) fitsLanes(w *work) bool {
	l := simd.Attention()
	return l != nil && w.i1-w.i0 == 1 && w.rows <= l.Width && f.HeadDim%simd.MaxLanes == 0 && f.valueDim()%simd.MaxLanes == 0 && f.Slopes == nil && f.Bias == nil && f.Sinks == 0
}

// laneWork is the state of a tile in lanes.
type laneWork struct {
	*simd.AttentionTile
	top, sum simd.Lanes
	peak     simd.Lanes // of the current block
	q        []float32  // packed for Score
	last     []float32  // keys that do not fill a register, padded
	lastHalf []uint16   // the same for ScorePairs
	lastInts []byte     // the same for ScoreQuads
}

// attendLanes is the loop over the blocks of keys.
func (f *forward) attendLanes(w *work) {
	f.clearLanes(w, w.rows)
	switch {
	case w.fresh && f.usesPairs(&w.lanes):
		f.packPairs(w)
	case w.fresh && f.usesQuads(&w.lanes):
		f.packQuads(w)
	case w.fresh:
		f.packQueries(w)
	}
	elements := laneElements
	if simd.HardwarePrefetch() {
		elements *= 2
	}
	size := pool.RoundUp(min(elements/f.HeadDim, laneScores/w.lanes.Rows), simd.MaxLanes)
	w.s = memory.Grow(w.s, size*w.lanes.Rows)
	for j := w.from; j < w.to; j += size {
		n := min(size, w.to-j)
		f.scoreLanes(w, j, n)
		w.softmaxLanes(f.valueDim(), n, f.k.ahead(w.b, w.kv, min(j+n, w.to-1), f.HeadDim))
		f.sumValuesLanes(w, j, n)
	}
	f.endLanes(w)
}

// endLanes gathers the state of the rows from the lanes.
func (f *forward) endLanes(w *work) {
	w.o = w.o[:w.rows*f.valueDim()]
	for r := range w.rows {
		w.top[r] = w.lanes.top[r]
		for i := r; i < simd.Attention().Width; i += w.lanes.Rows {
			w.sum[r] += w.lanes.sum[i]
		}
	}
}

// clearLanes sets the state before any key, for at least a number of rows. Those that pad the register are zero.
func (f *forward) clearLanes(w *work, rows int) {
	l := &w.lanes
	l.AttentionTile, l.sum = simd.Attention().Tile(rows), simd.Lanes{}
	fill(l.top[:], float32(math.Inf(-1)))
	w.o = memory.Grow(w.o, l.Rows*f.valueDim())
	clear(w.o)
}

// packQueries puts the queries in the order of Score.
func (f *forward) packQueries(w *work) {
	d, l := f.HeadDim, &w.lanes
	l.q = memory.Grow(l.q, l.Rows*d)
	clear(l.q)
	for r := range w.rows {
		packQuery(l.q[r*l.C:], w.q[r*d:][:d], l.C, l.Rows*l.C)
	}
}

// packQuery copies c elements of the row at a time, to places a stride apart. They are too few for a call of copy.
func packQuery(to, row []float32, c, stride int) {
	for len(row) > 0 {
		for i := range c {
			to[i] = row[i]
		}
		row = row[c:]
		to = to[min(stride, len(to)):]
	}
}

// halfKeys is how many keys of 16 bits are converted at a time: a multiple of MaxLanes, few enough to stay in the first-level
// cache.
const halfKeys = 32

// piece returns how many of n rows are taken at a time.
func (v View) piece(n int) int {
	if v.Format == simd.F32 {
		return n
	}
	return min(halfKeys, n)
}

// scoreLanes computes s[j,r] = q·kᵀ for n keys from j. Meanwhile it prefetches those that follow.
func (f *forward) scoreLanes(w *work, j, n int) {
	d, l := f.HeadDim, &w.lanes
	switch {
	case f.k.Ints != 0:
		f.scoreInts(w, j, n)
		return
	case f.usesPairs(l):
		f.scorePairs(w, j, n)
		return
	}
	next, soon := f.k.ahead(w.b, w.kv, j, d), l.Ahead(f.k.Format)
	if whole := n / simd.Attention().Width * simd.Attention().Width; f.k.Format != simd.F32 && l.ScoreHalf != nil && whole > 0 {
		l.ScoreHalf(f.k.Format, whole, d, l.q, f.k.Half[f.k.index(w.b, w.kv, j):], f.k.Row, w.s, next.At(soon, 2*l.ScoreStep))
		if whole == n {
			return
		}
		k, ld := f.k.rows(&w.converted, w.b, w.kv, j+whole, n-whole, d)
		l.scoreKeys(n-whole, d, k, ld, w.s[whole*l.Rows:], next)
		return
	}
	piece := f.k.piece(n)
	for i := 0; i < n; i += piece {
		m := min(piece, n-i)
		k, ld := f.k.rows(&w.converted, w.b, w.kv, j+i, m, d)
		l.scoreKeys(m, d, k, ld, w.s[i*l.Rows:], next.At(i*d+soon, l.ScoreStep))
	}
}

// scoreKeys is Score for any number of keys. Scores of keys that pad the register are -Inf.
func (l *laneWork) scoreKeys(n, d int, k []float32, ld int, s []float32, next simd.Prefetch) {
	width := simd.Attention().Width
	whole := n / width * width
	if whole > 0 {
		l.Score(whole, d, l.q, k, ld, s, next)
	}
	if whole < n {
		l.last = memory.Grow(l.last, width*d)
		clear(l.last)
		blas.CopyRows(l.last, d, k[whole*ld:], ld, n-whole, d)
		l.Score(width, d, l.q, l.last, d, s[whole*l.Rows:], simd.Prefetch{Base: next.Base})
		fill(s[n*l.Rows:(whole+width)*l.Rows], float32(math.Inf(-1)))
	}
}

// softmaxLanes is forward.softmax in lanes, for n keys and values of d elements.
func (w *work) softmaxLanes(d, n int, next simd.Prefetch) {
	s := w.s[:pool.RoundUp(n, simd.Attention().Width)*w.lanes.Rows]
	w.raise(d, s)
	simd.Attention().Exp(s, &w.lanes.top, &w.lanes.sum, next)
}

// raise updates the largest scores with s, and rescales the sums of rows in which they grow.
func (w *work) raise(d int, s []float32) {
	l, width := &w.lanes, simd.Attention().Width
	l.peak = l.top
	simd.Attention().Max(s, &l.peak)
	for r := range l.Rows {
		t := l.top[r]
		for i := r; i < width; i += l.Rows {
			t = max(t, l.peak[i])
		}
		if t == l.top[r] {
			continue
		}
		shrink := simd.Exp(l.top[r] - t)
		simd.Scale(w.o[r*d:][:d], shrink)
		for i := r; i < width; i += l.Rows {
			l.top[i] = t
			l.sum[i] *= shrink
		}
	}
}

// sumValuesLanes computes o += s·v for n keys from j. Meanwhile it prefetches those that follow.
func (f *forward) sumValuesLanes(w *work, j, n int) {
	if f.v.Ints != 0 {
		f.sumValuesInts(w, j, n)
		return
	}
	d, l := f.valueDim(), &w.lanes
	next, soon := f.v.ahead(w.b, w.kv, j, d), l.Ahead(f.v.Format)
	if f.v.Format != simd.F32 && l.SumValuesHalf != nil && d%l.W == 0 {
		v, from, step := f.v.Half[f.v.index(w.b, w.kv, j):], soon, min(2*simd.MaxLanes, l.W*l.H/l.Rows)
		for x := 0; x < d; x += l.W {
			for r := 0; r < l.Rows; r += l.H {
				l.SumValuesHalf(f.v.Format, n, w.s[r:], l.Rows, v[x:], f.v.Row, w.o[r*d+x:], d, next.At(from, step))
				from += n * l.W * l.H / l.Rows
			}
		}
		return
	}
	piece := f.v.piece(n)
	for i := 0; i < n; i += piece {
		m := min(piece, n-i)
		v, ld := f.v.rows(&w.converted, w.b, w.kv, j+i, m, d)
		w.sumValuesKeys(m, d, w.s[i*l.Rows:], v, ld, next, i*d+soon)
	}
}

// sumValuesKeys computes o += s·v for n keys, and prefetches n·d elements of next.
func (w *work) sumValuesKeys(n, d int, s, v []float32, ld int, next simd.Prefetch, from int) {
	l, x := &w.lanes, 0
	for ; x+l.W <= d; x += l.W {
		for r := 0; r < l.Rows; r += l.H {
			l.SumValues(n, s[r:], l.Rows, v[x:], ld, w.o[r*d+x:], d, next.At(from, l.SumValuesStep))
			from += n * l.W * l.H / l.Rows
		}
	}
	for j := 0; x < d && j < n; j += halfKeys { // in pieces, so that a cache of 16 bits sums in the same order
		w.sumValuesRest(min(halfKeys, n-j), d, x, s[j*l.Rows:], v[j*ld:], ld)
	}
}

// sumValuesRest is sumValuesKeys for the elements from x on.
func (w *work) sumValuesRest(n, d, x int, s, v []float32, ld int) {
	rows := w.lanes.Rows
	for ; x < d; x += simd.Gemm().NR {
		for r := 0; r < rows; r += simd.Gemm().MR {
			simd.Gemm().Micro(min(simd.Gemm().MR, rows-r), min(simd.Gemm().NR, d-x), n, s[r:], 1, rows, v[x:], ld, w.o[r*d+x:], d, true)
		}
	}
}
