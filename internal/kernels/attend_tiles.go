package kernels

import "math"

// tileKeys is how many keys are in work at a time: enough that setting up the tiles does not count.
const tileKeys = 256

// tileWork is what attention by tiles has beside laneWork.
type tileWork struct {
	q, p    []float32 // queries and weights, split
	turned  []float32 // weights [rows, keys]
	last    []uint16  // rows that do not fill a tile, filled up
	scratch tileScratch
}

// inTiles reports whether a tile that is in lanes suits kern.tiles, too. Few rows are as fast in lanes.
func (f *forward) inTiles(w *work) bool {
	return kern.tiles != nil && f.k.Format == BF16 && f.v.Format == BF16 && w.rows > 4 && f.HeadDim%tileColumns == 0
}

// attendTiles is attendLanes with the products by matrix instructions.
func (f *forward) attendTiles(w *work) {
	f.beginTiles(w)
	for j := w.from; j < w.to; j += tileKeys {
		n := min(tileKeys, w.to-j)
		f.scoreTiles(w, j, n)
		now, later := f.nextKeys(w, j, n)
		w.softmaxLanes(f.HeadDim, roundUp(n, tileDepth), now)
		f.weighTiles(w, j, n, later)
	}
	for r := range w.rows {
		unshuffle(w.o[r*f.HeadDim:][:f.HeadDim])
	}
	f.endLanes(w)
}

// beginTiles splits the queries.
func (f *forward) beginTiles(w *work) {
	f.clearLanes(w)
	d, rows, t := f.HeadDim, w.lane.rows, &w.tile
	size := rows * max(d, tileKeys)
	t.q, t.p, t.turned = grown(t.q, 3*rows*d/2), grown(t.p, 3*size/2), grown(t.turned, size)
	w.s = grown(w.s, rows*tileKeys)
	clear(t.turned[copy(t.turned, w.q[:w.rows*d]) : rows*d])
	kern.tiles.splitRows(rows, d, t.turned, d, t.q, t.p)
}

// scoreTiles is scoreLanes. Keys that fill up a tile get -Inf.
func (f *forward) scoreTiles(w *work, j, n int) {
	d, rows, t := f.HeadDim, w.lane.rows, &w.tile
	k, ld := f.k.Half[f.k.index(w.b, w.kv, j):], f.k.Row
	whole := n / tileSize * tileSize
	if whole > 0 {
		kern.tiles.dots(whole, d, rows, k, ld, t.q, w.s, f.v.ahead(w.b, w.kv, j, d).at(0, tileDepth))
	}
	if whole < n {
		t.fillUp(tileSize, d, k[whole*ld:], ld, n-whole)
		kern.tiles.dots(tileSize, d, rows, t.last, d, t.q, w.s[whole*rows:], lookahead{base: f.v.ahead(w.b, w.kv, j, d).base})
	}
	fill(w.s[n*rows:roundUp(n, tileDepth)*rows], float32(math.Inf(-1)))
}

// weighTiles is weighLanes.
func (f *forward) weighTiles(w *work, j, n int, next lookahead) {
	d, rows, t := f.HeadDim, w.lane.rows, &w.tile
	padded, whole := roundUp(n, tileDepth), n/tileDepth*tileDepth
	kern.packT(t.turned, w.s, rows, padded, rows, padded)
	kern.tiles.splitPairs(t.p, rows*padded/2, t.turned[:rows*padded])
	v, ld := f.v.Half[f.v.index(w.b, w.kv, j):], f.v.Row
	for x := 0; x < d && whole > 0; x += tileColumns {
		kern.tiles.weigh(whole, rows, t.p, padded, v[x:], ld, w.o[x:], d, &t.scratch, next.at(x*whole, tileDepth))
	}
	if whole == n {
		return
	}
	t.fillUp(tileDepth, d, v[whole*ld:], ld, n-whole)
	for x := 0; x < d; x += tileColumns {
		kern.tiles.weigh(tileDepth, rows, t.p[whole/2:], padded, t.last[x:], d, w.o[x:], d, &t.scratch, lookahead{base: next.base})
	}
}

// fillUp copies n rows of d elements to t.last, and zeros to the rows behind them.
func (t *tileWork) fillUp(rows, d int, src []uint16, ld, n int) {
	if cap(t.last) < rows*d {
		t.last = make([]uint16, rows*d)
	}
	t.last = t.last[:rows*d]
	for r := range n {
		copy(t.last[r*d:][:d], src[r*ld:])
	}
	clear(t.last[n*d:])
}
