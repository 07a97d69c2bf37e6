package nn

import (
	"math"
	"sync"
	"sync/atomic"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

const (
	keyBlock   = 128 // keys whose scores are computed at a time
	keyChunk   = 512 // about the fewest keys per task where all queries fit one tile
	keyTasks   = 40  // about as many tasks are enough: more keys each cost less
	tileRows   = 128 // rows of a tile: query heads of a group times queries
	streamRows = 32  // up to here V is not packed
	dotsRows   = 8   // up to here K is not packed; packing K costs more because it is transposed
)

// Attend computes out = softmax(Scale·q·kᵀ)·v. out and q have Heads heads, k and v KVHeads. lse [Batch, Heads, Queries],
// if not nil, receives the logarithm of the sum of the exponentials of each row's scores. A query that sees no key gives
// zeros and -Inf. k and v may be in a format of 16 bits: the result is that for the same numbers in float32, bit by bit
// unless the processor has instructions for products of them. The path avx512bf16 takes 17 bits of the queries for keys in bfloat16, and
// where there are instructions for products of bytes 15 bits for keys of integers.
//
// It runs over blocks of keys with the online softmax of FlashAttention (Dao et al., arXiv 2205.14135), so the scores
// never exist as a whole. The rows of one small product are all query heads of a group times a block of queries: K and
// V are read once per group, which is why grouped heads save time.
func Attend(a Attention, out View, lse []float32, q, k, v View) {
	if a.Batch*a.Heads*a.Queries == 0 {
		return
	}
	f := forwards.Get().(*forward)
	f.Attention, f.out, f.lse, f.q, f.k, f.v = a, out, lse, q, k, v
	f.serial = calls.Add(1)
	f.tile = min(a.Queries, max(1, tileRows/a.group()))
	f.tiles, f.chunks = pool.CeilDiv(a.Queries, f.tile), 1
	if f.tiles == 1 && f.Sinks == 0 {
		f.chunk = pool.Evenly(max(a.Keys, 1), max(keyChunk, pool.CeilDiv(a.Keys*a.Batch*a.KVHeads, keyTasks)), simd.AMXDepth)
		f.chunks = max(1, pool.CeilDiv(a.Keys, f.chunk))
	}
	if f.chunks > 1 {
		f.partial = memory.Grow(f.partial, a.Batch*a.Heads*f.tile*f.chunks*(a.valueDim()+2))
	}
	pool.Run(a.Batch*a.KVHeads*f.tiles*f.chunks, 1, f)
	if f.chunks > 1 {
		pool.Run(a.Batch*a.KVHeads, pool.Grain(f.rows()*f.chunks*a.valueDim()), (*combining)(f))
	}
	f.Attention, f.out, f.lse, f.q, f.k, f.v = Attention{}, View{}, nil, View{}, View{}, View{}
	forwards.Put(f)
}

// forward is one call of Attend. A task is a tile of queries of one kv head and, if they are chunked, a chunk of keys.
type forward struct {
	Attention
	out, q, k, v        View
	lse                 []float32
	serial              uint64 // tells calls apart
	tile, tiles, chunks int
	chunk               int // keys per chunk, if there are several
	// partial holds, if chunks > 1, a tile's sums per chunk: [Batch, KVHeads, chunks, rows·(valueDim+2)].
	partial []float32
}

var (
	calls    atomic.Uint64
	forwards = sync.Pool{New: func() any { return new(forward) }}
	works    = sync.Pool{New: func() any { return new(work) }}
)

// work is the scratch of one task: a tile of rows of queries, and the state of their softmax.
type work struct {
	others         []float32 // queries for sinks, or those for other keys while sinks are taken
	sinks          bool
	q, o, s        []float32 // queries [rows, HeadDim], sums [rows, valueDim], scores [rows, keyBlock]
	held           queryTile
	fresh          bool      // the queries are not those of the previous task
	top, sum       []float32 // largest score so far and the sum of exponentials relative to it [rows]
	packed         []float32
	converted      []float32 // rows of K or V from a format of 16 bits
	lanes          laneWork
	amx            amxWork
	b, kv, i0, i1  int // sequence, kv head, queries [i0,i1)
	rows, from, to int // of the tile; keys [from,to)
}

// queryTile identifies the queries of a tile: the call, the sequence, the kv head and the range of queries.
type queryTile struct {
	serial          uint64
	b, kv, from, to int
}

func (f *forward) rows() int { return f.group() * f.tile }

func (f *forward) Block(lo, hi int) {
	w := works.Get().(*work)
	for t := lo; t < hi && !f.stopped(); t++ {
		chunk, tile, head := t%f.chunks, t/f.chunks%f.tiles, t/f.chunks/f.tiles
		f.begin(w, head/f.KVHeads, head%f.KVHeads, tile, chunk)
		switch {
		case !f.fitsLanes(w):
			f.attend(w)
		case f.fitsAMX(w):
			f.attendAMX(w)
		default:
			f.attendLanes(w)
		}
		if f.chunks == 1 {
			f.finish(w)
		} else {
			f.save(w, (head*f.chunks+chunk)*f.rows()*(f.valueDim()+2))
		}
	}
	works.Put(w)
}

// attend loops over the blocks of keys.
func (f *forward) attend(w *work) {
	if f.Sinks > 0 {
		f.attendSinks(w)
	}
	f.attendKeys(w, max(w.from, f.Sinks), w.to)
}

// attendSinks is the part of attend that takes sinks, which all queries see from the first key on.
func (f *forward) attendSinks(w *work) {
	w.others = memory.Grow(w.others, len(w.q))
	f.scale(w.others, w, f.sinkQueries(f.q))
	w.q, w.others, w.sinks = w.others, w.q, true
	f.attendKeys(w, 0, min(f.Sinks, w.to))
	w.q, w.others, w.sinks = w.others, w.q, false
}

func (f *forward) attendKeys(w *work, from, to int) {
	for j := from; j < to; j += keyBlock {
		n := min(keyBlock, to-j)
		f.scores(w, j, n)
		f.softmax(w, j, n)
		f.sumValues(w, j, n)
	}
}

// begin scales the queries of a tile and clears its sums.
func (f *forward) begin(w *work, b, kv, tile, chunk int) {
	w.b, w.kv, w.i0 = b, kv, tile*f.tile
	w.i1 = min(w.i0+f.tile, f.Queries)
	w.rows = f.group() * (w.i1 - w.i0)
	w.from, _ = f.visible(b, w.i0)
	_, w.to = f.visible(b, w.i1-1)
	if f.chunks > 1 {
		w.from = max(w.from, chunk*f.chunk)
		w.to = min(w.to, (chunk+1)*f.chunk)
	}
	w.q, w.o, w.s = memory.Grow(w.q, w.rows*f.HeadDim), memory.Grow(w.o, w.rows*f.valueDim()), memory.Grow(w.s, w.rows*keyBlock)
	w.top, w.sum = memory.Grow(w.top, w.rows), memory.Grow(w.sum, w.rows)
	clear(w.o)
	clear(w.sum)
	fill(w.top, float32(math.Inf(-1)))
	f.hold(w, queryTile{f.serial, b, kv, w.i0, w.i1})
}

// hold scales the queries of a tile unless the previous task had the same.
func (f *forward) hold(w *work, queries queryTile) {
	w.fresh = w.held != queries
	if !w.fresh {
		return
	}
	w.held = queries
	f.scale(w.q, w, f.q)
}

// scale writes the queries of a tile, scaled, to rows without gaps.
func (f *forward) scale(rows []float32, w *work, q View) {
	d := f.HeadDim
	for r := range w.rows {
		h, i := f.row(w, r)
		row := rows[r*d:][:d]
		copy(row, q.at(w.b, h, i))
		simd.Scale(row, f.Scale)
	}
}

// row returns the query head and the query of row r of the tile.
func (f *forward) row(w *work, r int) (h, i int) {
	n := w.i1 - w.i0
	return w.kv*f.group() + r/n, w.i0 + r%n
}

// scores computes s = q·kᵀ for n keys from j.
func (f *forward) scores(w *work, j, n int) {
	d := f.HeadDim
	k, ld := f.k.rows(&w.converted, w.b, w.kv, j, n, d)
	if w.rows <= dotsRows {
		blas.MultiplyNT(w.rows, n, d, 1, w.q, d, k, ld, w.s, keyBlock, false)
		return
	}
	w.packed = blas.Pack(w.packed, k, ld, true, d, n)
	blas.MultiplyPacked(w.rows, n, d, w.q, d, 1, w.packed, w.s, keyBlock, false)
}

// softmax turns scores into exponentials relative to the largest so far, and rescales the sums when that grows.
func (f *forward) softmax(w *work, j, n int) {
	d := f.valueDim()
	for r := range w.rows {
		h, i := f.row(w, r)
		lo, hi := f.seen(w.b, i, j, n)
		if w.sinks {
			lo = 0
		}
		row := w.s[r*keyBlock:][:n]
		clear(row[:lo])
		clear(row[hi:])
		if lo == hi {
			continue
		}
		row = row[lo:hi]
		f.addBias(row, w.b, h, i, j+lo)
		if top := simd.Max(row); top > w.top[r] {
			shrink := simd.Exp(w.top[r] - top)
			w.sum[r] *= shrink
			simd.Scale(w.o[r*d:][:d], shrink)
			w.top[r] = top
		}
		w.sum[r] += simd.ExpSum(row, row, w.top[r])
	}
}

// sumValues computes o += s·v.
func (f *forward) sumValues(w *work, j, n int) {
	d := f.valueDim()
	v, ld := f.v.rows(&w.converted, w.b, w.kv, j, n, d)
	if w.rows <= streamRows {
		blas.MultiplyNN(w.rows, d, n, w.s, keyBlock, 1, v, ld, w.o, d, true)
		return
	}
	w.packed = blas.Pack(w.packed, v, ld, false, n, d)
	blas.MultiplyPacked(w.rows, d, n, w.s, keyBlock, 1, w.packed, w.o, d, true)
}

// finish writes the rows of a tile after its last key.
func (f *forward) finish(w *work) {
	for r := range w.rows {
		h, i := f.row(w, r)
		f.write(w.b, h, i, w.o[r*f.valueDim():], w.top[r], w.sum[r])
	}
}

func (f *forward) write(b, h, i int, o []float32, top, sum float32) {
	row := f.out.at(b, h, i)[:f.valueDim()]
	if sum == 0 {
		clear(row)
	} else {
		copy(row, o)
		simd.Scale(row, 1/sum)
	}
	if f.lse != nil {
		f.lse[(b*f.Heads+h)*f.Queries+i] = float32(float64(top) + math.Log(float64(sum)))
	}
}

// save keeps the state of a chunk: all sums, then the largest scores, then the sums of exponentials.
func (f *forward) save(w *work, at int) {
	n := copy(f.partial[at:], w.o)
	n += copy(f.partial[at+n:], w.top)
	copy(f.partial[at+n:], w.sum)
}

// combining merges the chunks of a tile, in order.
type combining forward

func (c *combining) Block(lo, hi int) {
	f := (*forward)(c)
	rows, d := f.rows(), f.valueDim()
	size := rows * (d + 2)
	for head := lo; head < hi; head++ {
		part := f.partial[head*f.chunks*size:][:f.chunks*size]
		for r := range rows {
			o, top, sum := part[r*d:][:d], part[rows*d+r], part[rows*(d+1)+r]
			for p := size; p < len(part); p += size {
				top, sum = merge(o, part[p+r*d:][:d], top, sum, part[p+rows*d+r], part[p+rows*(d+1)+r])
			}
			b, h := head/f.KVHeads, head%f.KVHeads*f.group()+r/f.tile
			f.write(b, h, r%f.tile, o, top, sum)
		}
	}
}

// merge adds the softmax state (o2, top2, sum2) to (o, top, sum).
func merge(o, o2 []float32, top, sum, top2, sum2 float32) (float32, float32) {
	if sum2 == 0 {
		return top, sum
	}
	if top2 > top {
		shrink := simd.Exp(top - top2)
		simd.Scale(o, shrink)
		sum *= shrink
		top = top2
	}
	s := simd.Exp(top2 - top)
	simd.Axpy(s, o2, o)
	return top, sum + s*sum2
}

// fill sets all elements of s to v.
func fill(s []float32, v float32) {
	for i := range s {
		s[i] = v
	}
}
