package blas

import (
	"math"
	"sync"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// Add computes dst = x + y. dst may alias x or y.
func Add(dst, x, y []float32) {
	if len(dst) <= pool.BlockElements {
		simd.Add(dst, x[:len(dst)], y[:len(dst)])
		return
	}
	pool.For(len(dst), pool.BlockElements, func(lo, hi int) { simd.Add(dst[lo:hi], x[lo:hi], y[lo:hi]) })
}

// Copy copies x to dst.
func Copy(dst, x []float32) {
	if len(x) <= pool.BlockElements {
		copy(dst, x)
		return
	}
	pool.For(len(x), pool.BlockElements, func(lo, hi int) { copy(dst[lo:hi], x[lo:hi]) })
}

// Clear sets dst to zeros.
func Clear(dst []float32) {
	if len(dst) <= pool.BlockElements {
		clear(dst)
		return
	}
	pool.For(len(dst), pool.BlockElements, func(lo, hi int) { clear(dst[lo:hi]) })
}

// Accumulate computes dst += x.
func Accumulate(dst, x []float32) { Axpy(1, x, dst) }

// Scale computes dst *= s.
func Scale(dst []float32, s float32) {
	if len(dst) <= pool.BlockElements {
		simd.Scale(dst, s)
		return
	}
	pool.For(len(dst), pool.BlockElements, func(lo, hi int) { simd.Scale(dst[lo:hi], s) })
}

// Axpy computes y += s·x.
func Axpy(s float32, x, y []float32) {
	if len(x) <= pool.BlockElements {
		simd.Axpy(s, x, y[:len(x)])
		return
	}
	pool.For(len(x), pool.BlockElements, func(lo, hi int) { simd.Axpy(s, x[lo:hi], y[lo:hi]) })
}

// Lerp moves dst towards x by the share s of the way: dst = (1-s)·dst + s·x.
func Lerp(dst, x []float32, s float32) {
	pool.For(len(dst), pool.BlockElements, func(lo, hi int) {
		simd.Scale(dst[lo:hi], 1-s)
		simd.Axpy(s, x[lo:hi], dst[lo:hi])
	})
}

// Swap exchanges the elements of x and y.
func Swap(x, y []float32) {
	pool.For(len(x), pool.BlockElements, func(lo, hi int) {
		for i, v := range x[lo:hi] {
			x[lo+i], y[lo+i] = y[lo+i], v
		}
	})
}

// Shift computes dst = x + t. dst may alias x.
func Shift(dst, x []float32, t float32) { simd.Affine(dst, x[:len(dst)], 1, t) }

// Dot returns Σ_i x[i]·y[i].
func Dot(x, y []float32) float32 { return simd.Dot(x, y[:len(x)]) }

// squaresBlock is how many squares are summed in float32, in lanes, before they are added in float64.
const squaresBlock = 256

// Finite reports whether no element of x is NaN or infinite.
func Finite(x []float32) bool {
	const exponent, one, sign = 0x7f800000, 0x00800000, 0x80000000
	var carried uint32 // into the sign, by adding one to an exponent of all ones
	for _, f := range x {
		carried |= math.Float32bits(f)&exponent + one
	}
	return carried&sign == 0
}

// SumSquares returns Σ x², to about 1e-7 of it: it is infinite if a square overflows float32.
func SumSquares(x []float32) float64 {
	if len(x) <= pool.BlockElements {
		return sumSquares(x)
	}
	partial := partials.Get().(*[]float64)
	sums := append((*partial)[:0], make([]float64, pool.CeilDiv(len(x), pool.BlockElements))...)
	pool.For(len(x), pool.BlockElements, func(lo, hi int) { sums[lo/pool.BlockElements] = sumSquares(x[lo:hi]) })
	total := 0.0
	for _, s := range sums {
		total += s
	}
	*partial = sums
	partials.Put(partial)
	return total
}

var partials = sync.Pool{New: func() any { return new([]float64) }}

func sumSquares(x []float32) float64 {
	total := 0.0
	for len(x) > squaresBlock {
		total += float64(simd.Dot(x[:squaresBlock], x[:squaresBlock]))
		x = x[squaresBlock:]
	}
	return total + float64(simd.Dot(x, x))
}
