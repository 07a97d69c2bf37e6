package nn

import (
	"math"
	"sync"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// AttendF64 is Attend in float64, without lse: only the sums of values are rounded. It computes a row of scores at a time.
func AttendF64(a Attention, out, q, k, v View) {
	f := forwardsF64.Get().(*forwardF64)
	f.Attention, f.out, f.q, f.k, f.v = a, out, q, k, v
	pool.Run(a.Batch*a.Heads, 1, f)
	f.Attention, f.out, f.q, f.k, f.v = Attention{}, View{}, View{}, View{}, View{}
	forwardsF64.Put(f)
}

// forwardF64 is one call of AttendF64. A task is a head of a sequence.
type forwardF64 struct {
	Attention
	out, q, k, v View
}

// attentionWorkF64 is the scratch of a task: a query, keys [keys,headDim], values [valueDim,keys], scores, sums of values, and rows of K or V
// from a format of 16 bits.
type attentionWorkF64 struct {
	q, k, v, s, o []float64
	converted     []float32
}

var (
	forwardsF64       = sync.Pool{New: func() any { return new(forwardF64) }}
	attentionWorksF64 = sync.Pool{New: func() any { return new(attentionWorkF64) }}
)

func (f *forwardF64) Block(lo, hi int) {
	w := attentionWorksF64.Get().(*attentionWorkF64)
	for ; lo < hi; lo++ {
		b, h := lo/f.Heads, lo%f.Heads
		w.load(f, b, h/f.group(), f.keys(b))
		for i := 0; i < f.Queries && !f.stopped(); i++ {
			f.attend(w, b, h, i)
		}
	}
	attentionWorksF64.Put(w)
}

// load converts n keys and values of a head. The values are transposed.
func (w *attentionWorkF64) load(f *forwardF64, b, kv, n int) {
	d, e, ld := f.HeadDim, f.valueDim(), pool.RoundUp(n, keyBlock) // scratch grows by blocks, as a cache does by single rows
	w.k, w.v, w.s = memory.Grow(w.k, ld*d), memory.Grow(w.v, ld*e), memory.Grow(w.s, ld)
	if n == 0 {
		return
	}
	rows, apart := f.k.rows(&w.converted, b, kv, 0, n, d)
	for j := range n {
		simd.ToFloat64(w.k[j*d:][:d], rows[j*apart:][:d])
	}
	rows, apart = f.v.rows(&w.converted, b, kv, 0, n, e)
	for j := range n {
		for x, v := range rows[j*apart:][:e] {
			w.v[x*ld+j] = float64(v)
		}
	}
}

// attend computes query i of head h of sequence b.
func (f *forwardF64) attend(w *attentionWorkF64, b, h, i int) {
	first, end := f.visible(b, i)
	sinks, window := min(f.Sinks, end), first
	if sinks > 0 {
		first = 0
	}
	d, e, s := f.HeadDim, f.valueDim(), w.s[:end-first]
	out := f.out.at(b, h, i)[:e]
	if len(s) == 0 {
		clear(out)
		return
	}
	w.q, w.o = memory.Grow(w.q, d), memory.Grow(w.o, e)
	simd.ToFloat64(w.q, f.q.at(b, h, i)[:d])
	simd.DotsF64(s, w.q, w.k[first*d:], d)
	if sinks > 0 {
		simd.ToFloat64(w.q, f.sinkQueries(f.q).at(b, h, i)[:d])
		simd.DotsF64(s[:sinks], w.q, w.k, d)
	}
	for j := range s {
		s[j] = s[j]*float64(f.Scale) + f.bias(b, h, i, first+j)
	}
	for j := sinks; j < window-first; j++ {
		s[j] = math.Inf(-1)
	}
	softmaxF64(s)
	simd.DotsF64(w.o, s, w.v[first:], len(w.v)/e)
	simd.ToFloat32(out, w.o)
}

// softmaxF64 turns scores into their softmax.
func softmaxF64(s []float64) {
	sum, top := 0.0, math.Inf(-1)
	for _, x := range s {
		top = max(top, x)
	}
	for j, x := range s {
		s[j] = math.Exp(x - top)
		sum += s[j]
	}
	for j := range s {
		s[j] *= 1 / sum
	}
}
