package kernels

import (
	"math"
	"unsafe"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
)

// tileSlack is how far above a row's top scores may be: the top is raised beyond only, so sums are rarely rescaled. Weights
// relative to it are at most e to this power.
const tileSlack = 8

// tileQueries is the fewest rows that kern.tiles.attend takes.
const tileQueries = 8

// tileWork is what attention by tiles has beside laneWork.
type tileWork struct {
	tileState
	all  []float32 // the memory of the state
	last []uint16  // keys, then values, that do not fill a group, filled up
}

// inTiles reports whether a tile that is in lanes suits kern.tiles, too. A single row is as fast in lanes.
func (f *forward) inTiles(w *work) bool {
	return kern.tiles != nil && f.k.Format == BF16 && f.v.Format == BF16 && w.rows > 1 && f.HeadDim%tileColumns == 0
}

// attendTiles is attendLanes with the products by matrix instructions.
func (f *forward) attendTiles(w *work) {
	f.beginTiles(w)
	n, d := (w.to-w.from)/tileDepth*tileDepth, f.HeadDim
	if n > 0 {
		k, v := f.k.index(w.b, w.kv, w.from), f.v.index(w.b, w.kv, w.from)
		f.attendGroups(w, n, f.k.Half[k:], f.k.Row, f.v.Half[v:], f.v.Row)
	}
	if rest := w.to - w.from - n; rest > 0 {
		k, v := f.k.index(w.b, w.kv, w.from+n), f.v.index(w.b, w.kv, w.from+n)
		last := w.tile.last
		fillUp(last[:tileDepth*d], d, f.k.Half[k:], f.k.Row, rest)
		fillUp(last[tileDepth*d:], d, f.v.Half[v:], f.v.Row, rest)
		f.attendGroups(w, rest, last, d, last[tileDepth*d:], d)
	}
	for r := range w.rows {
		unshuffle(w.o[r*d:][:d])
	}
	f.endLanes(w)
}

// beginTiles makes room, and splits the queries unless they are those of the task before.
func (f *forward) beginTiles(w *work) {
	f.clearLanes(w, max(w.rows, tileQueries))
	w.limitScores()
	d, rows, t := f.HeadDim, w.lane.rows, &w.tile
	t.layOut(rows, d)
	if !w.fresh {
		return
	}
	w.s = memory.Grow(w.s, rows*d) // the queries of all rows, some of which may be none
	clear(w.s[copy(w.s, w.q[:w.rows*d]):])
	kern.tiles.splitRows(rows, d, 0, d, w.s, d, t.q, t.pairs[:3*rows*d/2])
}

// layOut divides memory from the start of a cache line on.
func (t *tileWork) layOut(rows, d int) {
	const line = 16
	group := tileDepth * rows
	pairs := max(tileDepth*d/2, 3*rows*d/2)
	t.all = memory.Grow(t.all, line+3*rows*d/2+2*group+3*group/2+pairs)
	rest := t.all[int(-uintptr(unsafe.Pointer(&t.all[0]))/4%line):]
	take := func(n int) []float32 {
		s := rest[:n:n]
		rest = rest[n:]
		return s
	}
	t.q, t.s[0], t.s[1], t.p, t.pairs = take(3*rows*d/2), take(group), take(group), take(3*group/2), take(pairs)
	if cap(t.last) < 2*tileDepth*d {
		t.last = make([]uint16, 2*tileDepth*d)
	}
	t.last = t.last[:2*tileDepth*d]
}

// attendGroups is attendTiles for n keys: so many groups of tileDepth, or fewer that k and v have filled up to one.
func (f *forward) attendGroups(w *work, n int, k []uint16, ldk int, v []uint16, ldv int) {
	d, t, rows := f.HeadDim, &w.tile, w.lane.rows
	kern.tiles.dots(tileDepth, d, rows, k, ldk, t.q, t.scores(), lookahead{base: (*byte)(unsafe.Pointer(&k[0]))})
	if n < tileDepth {
		fill(t.scores()[n*rows:], float32(math.Inf(-1)))
	}
	for groups := pool.CeilDiv(n, tileDepth); groups > 0; {
		left := kern.tiles.attend(&t.tileState, rows, d, groups, k, ldk, v, ldv, &w.lane.top, &w.lane.sum, w.o)
		if left > 0 {
			w.raise(d, t.scores())
			w.limitScores()
			done := (groups - left) * tileDepth
			k, v = k[done*ldk:], v[done*ldv:]
		}
		groups = left
	}
}

// limitScores sets the limit of scores by the tops.
func (w *work) limitScores() {
	for i, top := range w.lane.top {
		w.tile.limit[i] = top + tileSlack
	}
}

// fillUp copies n rows of d elements to dst, and zeros to the rows behind them.
func fillUp(dst []uint16, d int, src []uint16, ld, n int) {
	for r := range n {
		copy(dst[r*d:][:d], src[r*ld:][:d])
	}
	clear(dst[n*d:])
}
