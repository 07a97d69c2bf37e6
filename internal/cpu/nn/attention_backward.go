package nn

import (
	"sync"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

const (
	backwardTile  = 64 // queries whose scores are in work at a time
	backwardTasks = 16 // below this many kv heads, a group is cut in parts that run side by side
)

// AttendBackward writes the gradients dq, dk and dv given dout and what Attend saw and returned. dq and dout lie like
// q and out, dk and dv like k and v; rows of dk and dv past a sequence's keys become zero. All are float32. Probabilities are
// recomputed from lse. With P = exp(Scale·q·kᵀ - lse), dP = dout·vᵀ and D = rowsum(dout·out):
// dv = Pᵀ·dout, dS = Scale·P·(dP - D), dq = dS·k, dk = dSᵀ·q, summed over the query heads of a group in order; the
// gradient of Bias is dS/Scale, summed over the sequences.
func AttendBackward(a Attention, dq, dk, dv View, dout, out View, lse []float32, q, k, v View) {
	if a.Batch*a.Heads == 0 {
		return
	}
	f := &backward{Attention: a, dq: dq, dk: dk, dv: dv, dout: dout, out: out, q: q, k: k, v: v, lse: lse}
	f.together = 1
	if a.BiasGrad != nil {
		f.together = a.Batch
	}
	f.parts = partsOf(a.group(), a.Batch/f.together*a.KVHeads)
	if f.parts > 1 {
		f.split()
	}
	pool.Run(a.Batch/f.together*a.KVHeads*f.parts, 1, f)
	if f.parts > 1 {
		pool.Run(a.Batch*a.KVHeads*a.Keys, pool.Grain(f.parts*(a.HeadDim+a.valueDim())), (*joining)(f))
		f.release()
	}
}

// partsOf returns the smallest divisor of group that makes enough tasks of the kv heads.
func partsOf(group, kvHeads int) int {
	for p := 1; p < group; p++ {
		if group%p == 0 && p*kvHeads >= backwardTasks {
			return p
		}
	}
	return group
}

// backward is one call of AttendBackward. A task is a part of the query heads that read one kv head.
type backward struct {
	Attention
	dq, dk, dv, dout, out, q, k, v View
	lse                            []float32
	parts                          int
	together                       int // sequences per task: all of them if they add to one gradient of the bias
	buffer                         *[]float32
	dkParts, dvParts               View // [Batch, KVHeads·parts, Keys, HeadDim or valueDim] if parts > 1
}

var partBuffers = sync.Pool{New: func() any { return new([]float32) }}

func (f *backward) split() {
	f.buffer = partBuffers.Get().(*[]float32)
	heads := f.KVHeads * f.parts
	size := f.Batch * heads * f.Keys
	*f.buffer = memory.Grow(*f.buffer, size*(f.HeadDim+f.valueDim()))
	part := func(data []float32, width int) View {
		return View{Data: data, Seq: heads * f.Keys * width, Head: f.Keys * width, Row: width}
	}
	f.dkParts, f.dvParts = part((*f.buffer)[:size*f.HeadDim], f.HeadDim), part((*f.buffer)[size*f.HeadDim:], f.valueDim())
}

func (f *backward) release() { partBuffers.Put(f.buffer) }

// backwardWork is the scratch of one task.
type backwardWork struct {
	s, dp     []float32 // scores and their gradients [backwardTile, keyBlock]
	delta     []float32 // D [heads of the part, Queries]
	kT, vT, k []float32 // packed key block
	rows      []float32 // packed rows of q or dout
	b, kv     int
	h0, h1    int  // query heads [h0,h1)
	dk, dv    View // where the gradients of this part go, as head
	head      int
}

var backwardWorks = sync.Pool{New: func() any { return new(backwardWork) }}

func (f *backward) Block(lo, hi int) {
	w := backwardWorks.Get().(*backwardWork)
	for t := lo; t < hi && !f.stopped(); t++ {
		part, kv, b := t%f.parts, t/f.parts%f.KVHeads, t/f.parts/f.KVHeads*f.together
		for w.b = b; w.b < b+f.together; w.b++ {
			f.begin(w, kv, part)
			for j := 0; j < f.keys(w.b); j += keyBlock {
				f.keyBlock(w, j, min(keyBlock, f.keys(w.b)-j))
			}
		}
	}
	backwardWorks.Put(w)
}

// begin sets the heads of a task, clears their gradients and computes D.
func (f *backward) begin(w *backwardWork, kv, part int) {
	d, e, size := f.HeadDim, f.valueDim(), f.group()/f.parts
	w.kv, w.h0 = kv, kv*f.group()+part*size
	w.h1 = w.h0 + size
	w.dk, w.dv, w.head = f.dk, f.dv, kv
	if f.parts > 1 {
		w.dk, w.dv, w.head = f.dkParts, f.dvParts, kv*f.parts+part
	}
	w.s, w.dp = memory.Grow(w.s, backwardTile*keyBlock), memory.Grow(w.dp, backwardTile*keyBlock)
	w.delta = memory.Grow(w.delta, (w.h1-w.h0)*f.Queries)
	for t := range f.Keys {
		clear(w.dk.at(w.b, w.head, t)[:d])
		clear(w.dv.at(w.b, w.head, t)[:e])
	}
	for h := w.h0; h < w.h1; h++ {
		for i := range f.Queries {
			clear(f.dq.at(w.b, h, i)[:d])
			w.delta[(h-w.h0)*f.Queries+i] = simd.Dot(f.dout.at(w.b, h, i)[:e], f.out.at(w.b, h, i)[:e])
		}
	}
}

// keyBlock adds what n keys from j contribute, tile by tile of the queries that see them.
func (f *backward) keyBlock(w *backwardWork, j, n int) {
	d := f.HeadDim
	k, v := f.k.at(w.b, w.kv, j), f.v.at(w.b, w.kv, j)
	w.kT = blas.Pack(w.kT, k, f.k.Row, true, d, n)
	w.vT = blas.Pack(w.vT, v, f.v.Row, true, f.valueDim(), n)
	w.k = blas.Pack(w.k, k, f.k.Row, false, n, d)
	for h := w.h0; h < w.h1; h++ {
		for i := 0; i < f.Queries; i += backwardTile {
			rows := min(backwardTile, f.Queries-i)
			first, _ := f.visible(w.b, i)
			if _, end := f.visible(w.b, i+rows-1); first < j+n && end > j {
				f.tile(w, h, i, rows, j, n)
			}
		}
	}
}

func (f *backward) tile(w *backwardWork, h, i, rows, j, n int) {
	d, e := f.HeadDim, f.valueDim()
	q, dout := f.q.at(w.b, h, i), f.dout.at(w.b, h, i)
	blas.MultiplyPacked(rows, n, d, q, f.q.Row, 1, w.kT, w.s, keyBlock, false)
	blas.MultiplyPacked(rows, n, e, dout, f.dout.Row, 1, w.vT, w.dp, keyBlock, false)
	for r := range rows {
		f.row(w, h, i+r, j, w.s[r*keyBlock:][:n], w.dp[r*keyBlock:][:n])
	}
	w.rows = blas.Pack(w.rows, dout, f.dout.Row, false, rows, e)
	blas.MultiplyPacked(n, e, rows, w.s, 1, keyBlock, w.rows, w.dv.at(w.b, w.head, j), w.dv.Row, true)
	w.rows = blas.Pack(w.rows, q, f.q.Row, false, rows, d)
	blas.MultiplyPacked(n, d, rows, w.dp, 1, keyBlock, w.rows, w.dk.at(w.b, w.head, j), w.dk.Row, true)
	blas.MultiplyPacked(rows, d, n, w.dp, keyBlock, 1, w.k, f.dq.at(w.b, h, i), f.dq.Row, true)
}

// row turns scores q·k of query i into probabilities, and dP into dS.
func (f *backward) row(w *backwardWork, h, i, j int, s, dp []float32) {
	lo, hi := f.seen(w.b, i, j, len(s))
	for _, row := range [][]float32{s, dp} {
		clear(row[:lo])
		clear(row[hi:])
	}
	if lo == hi {
		return
	}
	s, dp = s[lo:hi], dp[lo:hi]
	simd.Scale(s, f.Scale)
	f.addBias(s, w.b, h, i, j+lo)
	simd.ExpSum(s, s, f.lse[(w.b*f.Heads+h)*f.Queries+i])
	simd.Affine(dp, dp, 1, -w.delta[(h-w.h0)*f.Queries+i])
	simd.Mul(dp, dp, s)
	if f.BiasGrad != nil {
		simd.Axpy(1, dp, f.BiasGrad[(h*f.Queries+i)*f.Keys+j+lo:][:len(dp)])
	}
	simd.Scale(dp, f.Scale)
}

// joining sums the parts of dk and dv, in order. Its items are the rows of all kv heads.
type joining backward

func (f *joining) Block(lo, hi int) {
	d, e := f.HeadDim, f.valueDim()
	for t := lo; t < hi; t++ {
		key, head := t%f.Keys, t/f.Keys
		b, kv := head/f.KVHeads, head%f.KVHeads
		dk, dv := f.dk.at(b, kv, key)[:d], f.dv.at(b, kv, key)[:e]
		copy(dk, f.dkParts.at(b, kv*f.parts, key))
		copy(dv, f.dvParts.at(b, kv*f.parts, key))
		for p := 1; p < f.parts; p++ {
			simd.Axpy(1, f.dkParts.at(b, kv*f.parts+p, key)[:d], dk)
			simd.Axpy(1, f.dvParts.at(b, kv*f.parts+p, key)[:e], dv)
		}
	}
}
