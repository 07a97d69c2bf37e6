package kernels

import (
	"math"
	"sync"
)

// AttendF64 is Attend in float64, of which the sums of values alone are rounded: a row of scores at a time.
func AttendF64(a Attention, out, q, k, v View) {
	f := wideForwards.Get().(*wideForward)
	f.Attention, f.out, f.q, f.k, f.v = a, out, q, k, v
	run(a.Batch*a.Heads, 1, f)
	f.Attention, f.out, f.q, f.k, f.v = Attention{}, View{}, View{}, View{}, View{}
	wideForwards.Put(f)
}

// wideForward is one call of AttendF64. A task is a head of a sequence.
type wideForward struct {
	Attention
	out, q, k, v View
}

var wideForwards = sync.Pool{New: func() any { return new(wideForward) }}

func (f *wideForward) block(lo, hi int) {
	w := wideWorks.Get().(*wideWork)
	for ; lo < hi; lo++ {
		b, h := lo/f.Heads, lo%f.Heads
		w.load(f, b, h/f.group(), f.keys(b))
		for i := 0; i < f.Queries && !f.stopped(); i++ {
			f.attend(w, b, h, i)
		}
	}
	wideWorks.Put(w)
}

// load widens n keys and values of a head, of which the values are transposed.
func (w *wideWork) load(f *wideForward, b, kv, n int) {
	d, ld := f.HeadDim, roundUp(n, keyBlock) // scratch grows by blocks, as a cache does by single rows
	w.k, w.v, w.s = grown(w.k, ld*d), grown(w.v, ld*d), grown(w.s, ld)
	if n == 0 {
		return
	}
	rows, apart := f.k.rows(&w.converted, b, kv, 0, n, d)
	for j := range n {
		toFloat64(w.k[j*d:][:d], rows[j*apart:][:d])
	}
	rows, apart = f.v.rows(&w.converted, b, kv, 0, n, d)
	for j := range n {
		for x, v := range rows[j*apart:][:d] {
			w.v[x*ld+j] = float64(v)
		}
	}
}

// attend is query i of head h of sequence b.
func (f *wideForward) attend(w *wideWork, b, h, i int) {
	first, end := f.visible(b, i)
	d, s, out := f.HeadDim, w.s[:end-first], f.out.at(b, h, i)[:f.HeadDim]
	if len(s) == 0 {
		clear(out)
		return
	}
	w.q, w.o = toFloat64(w.q, f.q.at(b, h, i)[:d]), grown(w.o, d)
	dotsF64(s, w.q, w.k[first*d:], d)
	for j := range s {
		s[j] = s[j]*float64(f.Scale) + f.bias(b, h, i, first+j)
	}
	softmaxF64(s)
	dotsF64(w.o, s, w.v[first:], len(w.v)/d)
	toFloat32(out, w.o)
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
