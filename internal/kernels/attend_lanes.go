package kernels

import (
	"math"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
)

// laneElements is about how many elements of K, and of V, are in work at a time, and laneScores how many scores at most: long
// stretches of either, as memory is slow to start where it is not read on from. They are twice as long for ownPrefetch.
const (
	laneElements = 1 << 16
	laneScores   = 1 << 12
)

// inLanes reports whether the tile suits kern.lanes: one query, so that all rows see the same keys.
func (f *forward) inLanes(w *work) bool {
	l := kern.lanes
	return l != nil && w.i1-w.i0 == 1 && w.rows <= l.width && f.HeadDim%maxLanes == 0 && f.Slopes == nil && f.Bias == nil
}

// laneWork is the state of a tile in lanes.
type laneWork struct {
	*laneTile
	top, sum lanes
	peak     lanes     // of the block in work
	q        []float32 // packed for score
	last     []float32 // keys that do not fill a register, filled up
	lastHalf []uint16  // the same for scorePairs
}

// attendLanes is the loop over the blocks of keys.
func (f *forward) attendLanes(w *work) {
	f.clearLanes(w, w.rows)
	switch {
	case w.fresh && f.inPairs(&w.lane):
		f.packPairs(w)
	case w.fresh:
		f.packQueries(w)
	}
	elements := laneElements
	if ownPrefetch {
		elements *= 2
	}
	size := pool.RoundUp(min(elements/f.HeadDim, laneScores/w.lane.rows), maxLanes)
	w.s = memory.Grow(w.s, size*w.lane.rows)
	for j := w.from; j < w.to; j += size {
		n := min(size, w.to-j)
		f.scoreLanes(w, j, n)
		w.softmaxLanes(f.HeadDim, n, f.k.ahead(w.b, w.kv, min(j+n, w.to-1), f.HeadDim))
		f.sumValuesLanes(w, j, n)
	}
	f.endLanes(w)
}

// endLanes gathers the state of the rows from the lanes.
func (f *forward) endLanes(w *work) {
	w.o = w.o[:w.rows*f.HeadDim]
	for r := range w.rows {
		w.top[r] = w.lane.top[r]
		for i := r; i < kern.lanes.width; i += w.lane.rows {
			w.sum[r] += w.lane.sum[i]
		}
	}
}

// clearLanes is the state before any key, for at least so many rows. Those that fill up the register are zero.
func (f *forward) clearLanes(w *work, rows int) {
	l := &w.lane
	l.laneTile, l.sum = kern.lanes.tile(rows), lanes{}
	fill(l.top[:], float32(math.Inf(-1)))
	w.o = memory.Grow(w.o, l.rows*f.HeadDim)
	clear(w.o)
}

// packQueries puts the queries in the order of score.
func (f *forward) packQueries(w *work) {
	d, l := f.HeadDim, &w.lane
	l.q = memory.Grow(l.q, l.rows*d)
	clear(l.q)
	for r := range w.rows {
		packQuery(l.q[r*l.c:], w.q[r*d:][:d], l.c, l.rows*l.c)
	}
}

// packQuery copies c elements of the row at a time, to places a stride apart. They are too few to call copy for.
func packQuery(to, row []float32, c, stride int) {
	for len(row) > 0 {
		for i := range c {
			to[i] = row[i]
		}
		row = row[c:]
		to = to[min(stride, len(to)):]
	}
}

// halfKeys is how many keys of 16 bits are converted at a time: a multiple of maxLanes, few enough to stay in the first-level
// cache.
const halfKeys = 32

// piece is how many of n rows are taken at a time.
func (v View) piece(n int) int {
	if v.Format == F32 {
		return n
	}
	return min(halfKeys, n)
}

// scoreLanes is s[j,r] = q·kᵀ for n keys from j. Meanwhile it asks for those that come soon.
func (f *forward) scoreLanes(w *work, j, n int) {
	d, l := f.HeadDim, &w.lane
	if f.inPairs(l) {
		f.scoreInPairs(w, j, n)
		return
	}
	next, soon := f.k.ahead(w.b, w.kv, j, d), l.soon(f.k.Format)
	if whole := n / kern.lanes.width * kern.lanes.width; f.k.Format != F32 && l.scoreHalf != nil && whole > 0 {
		l.scoreHalf(f.k.Format, whole, d, l.q, f.k.Half[f.k.index(w.b, w.kv, j):], f.k.Row, w.s, next.at(soon, 2*l.scoreStep))
		if whole == n {
			return
		}
		k, ld := f.k.rows(&w.converted, w.b, w.kv, j+whole, n-whole, d)
		l.scoreKeys(n-whole, d, k, ld, w.s[whole*l.rows:], next)
		return
	}
	piece := f.k.piece(n)
	for i := 0; i < n; i += piece {
		m := min(piece, n-i)
		k, ld := f.k.rows(&w.converted, w.b, w.kv, j+i, m, d)
		l.scoreKeys(m, d, k, ld, w.s[i*l.rows:], next.at(i*d+soon, l.scoreStep))
	}
}

// scoreKeys is score for any number of keys: -Inf for those that fill up the register.
func (l *laneWork) scoreKeys(n, d int, k []float32, ld int, s []float32, next lookahead) {
	width := kern.lanes.width
	whole := n / width * width
	if whole > 0 {
		l.score(whole, d, l.q, k, ld, s, next)
	}
	if whole < n {
		l.last = memory.Grow(l.last, width*d)
		clear(l.last)
		copyRows(l.last, d, k[whole*ld:], ld, n-whole, d)
		l.score(width, d, l.q, l.last, d, s[whole*l.rows:], lookahead{base: next.base})
		fill(s[n*l.rows:(whole+width)*l.rows], float32(math.Inf(-1)))
	}
}

// softmaxLanes is forward.softmax in lanes, for n keys.
func (w *work) softmaxLanes(d, n int, next lookahead) {
	s := w.s[:pool.RoundUp(n, kern.lanes.width)*w.lane.rows]
	w.raise(d, s)
	kern.lanes.exp(s, &w.lane.top, &w.lane.sum, next)
}

// raise takes note of the largest of scores s, and rescales the sums of rows of which it is the largest so far.
func (w *work) raise(d int, s []float32) {
	l, width := &w.lane, kern.lanes.width
	l.peak = l.top
	kern.lanes.max(s, &l.peak)
	for r := range l.rows {
		t := l.top[r]
		for i := r; i < width; i += l.rows {
			t = max(t, l.peak[i])
		}
		if t == l.top[r] {
			continue
		}
		shrink := exp32(l.top[r] - t)
		kern.scale(w.o[r*d:][:d], shrink)
		for i := r; i < width; i += l.rows {
			l.top[i] = t
			l.sum[i] *= shrink
		}
	}
}

// sumValuesLanes is o += s·v for n keys from j. Meanwhile it asks for those that come soon.
func (f *forward) sumValuesLanes(w *work, j, n int) {
	d, l := f.HeadDim, &w.lane
	next, soon := f.v.ahead(w.b, w.kv, j, d), l.soon(f.v.Format)
	if f.v.Format != F32 && l.sumValuesHalf != nil && d%l.w == 0 {
		v, from, step := f.v.Half[f.v.index(w.b, w.kv, j):], soon, min(2*maxLanes, l.w*l.h/l.rows)
		for x := 0; x < d; x += l.w {
			for r := 0; r < l.rows; r += l.h {
				l.sumValuesHalf(f.v.Format, n, w.s[r:], l.rows, v[x:], f.v.Row, w.o[r*d+x:], d, next.at(from, step))
				from += n * l.w * l.h / l.rows
			}
		}
		return
	}
	piece := f.v.piece(n)
	for i := 0; i < n; i += piece {
		m := min(piece, n-i)
		v, ld := f.v.rows(&w.converted, w.b, w.kv, j+i, m, d)
		w.sumValuesKeys(m, d, w.s[i*l.rows:], v, ld, next, i*d+soon)
	}
}

// sumValuesKeys is o += s·v for n keys, asking for n·d elements from there on.
func (w *work) sumValuesKeys(n, d int, s, v []float32, ld int, next lookahead, from int) {
	l, x := &w.lane, 0
	for ; x+l.w <= d; x += l.w {
		for r := 0; r < l.rows; r += l.h {
			l.sumValues(n, s[r:], l.rows, v[x:], ld, w.o[r*d+x:], d, next.at(from, l.sumValuesStep))
			from += n * l.w * l.h / l.rows
		}
	}
	for j := 0; x < d && j < n; j += halfKeys { // in pieces, so that a cache of 16 bits sums in the same order
		w.sumValuesRest(min(halfKeys, n-j), d, x, s[j*l.rows:], v[j*ld:], ld)
	}
}

// sumValuesRest is sumValuesKeys for the elements from x on.
func (w *work) sumValuesRest(n, d, x int, s, v []float32, ld int) {
	rows := w.lane.rows
	for ; x < d; x += kern.nr {
		for r := 0; r < rows; r += kern.mr {
			kern.micro(min(kern.mr, rows-r), min(kern.nr, d-x), n, s[r:], 1, rows, v[x:], ld, w.o[r*d+x:], d, true)
		}
	}
}
