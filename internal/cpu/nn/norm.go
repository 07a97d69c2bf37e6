// Package nn holds the operations of a transformer's layers over plain slices, forward and backward: norms, rotary embedding,
// attention, activations, and the losses of logits. They compute on all threads.
//
// A function ending in Ref is the definition of the one without the suffix: the plain loop, mostly in float64. The other equals it up
// to rounding. Matrices are row-major. No result depends on the number of threads: work is divided into blocks whose borders follow
// from the sizes alone, and sums over blocks are taken in a fixed order.
package nn

import (
	"math"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// RMSNorm computes y = x·inv·w with inv[row] = 1/√(mean(x²)+eps) (Zhang & Sennrich, arXiv 1910.07467). x and y are
// [rows, dim] and may alias, w is [dim] or nil for ones, inv is [rows] or nil if not wanted. w may also be [heads, dim]:
// then row r takes that of head r mod heads. The same holds for every weight and bias of a norm, and their gradients.
func RMSNorm(y, inv, x, w []float32, rows, dim int, eps float32) {
	if rows*dim <= pool.BlockElements {
		rmsNorm(y, inv, x, w, 0, rows, dim, eps)
		return
	}
	pool.For(rows, pool.Grain(dim), func(lo, hi int) { rmsNorm(y, inv, x, w, lo, hi, dim, eps) })
}

func rmsNorm(y, inv, x, w []float32, lo, hi, dim int, eps float32) {
	for r := lo; r < hi; r++ {
		xr, yr := x[r*dim:][:dim], y[r*dim:][:dim]
		s := rsqrt(simd.Dot(xr, xr)/float32(dim) + eps)
		if inv != nil {
			inv[r] = s
		}
		scaleShift(yr, xr, s, 0, forRow(w, r, dim), nil)
	}
}

// forRow returns the part of a weight [dim] or [heads, dim] that row r takes.
func forRow(w []float32, r, dim int) []float32 {
	if len(w) <= dim {
		return w
	}
	at := r * dim % len(w)
	return w[at : at+dim]
}

func rsqrt(x float32) float32 { return float32(1 / math.Sqrt(float64(x))) }

// scaleShift computes y = (x·s + t)·w + b; nil w and b are ones and zeros.
func scaleShift(y, x []float32, s, t float32, w, b []float32) {
	simd.Affine(y, x, s, t)
	if w != nil {
		simd.Mul(y, y, w[:len(y)])
	}
	if b != nil {
		simd.Add(y, y, b[:len(y)])
	}
}

// RMSNormBackward writes dx and adds to dw (nil if not wanted), given dy and what RMSNorm saw and returned.
// With g = dy·w: dx = inv·(g - x·inv²·mean(g·x)), dw = Σ_rows dy·x·inv. dx may alias dy only if dw is nil.
func RMSNormBackward(dx, dw, dy, x, w, inv []float32, rows, dim int) {
	if dw != nil {
		normWeightBackward(dw, nil, dy, x, nil, inv, rows, dim)
	}
	pool.For(rows, pool.Grain(dim), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			dxr, dyr, xr := dx[r*dim:][:dim], dy[r*dim:][:dim], x[r*dim:][:dim]
			s := inv[r]
			scaleShift(dxr, dyr, s, 0, forRow(w, r, dim), nil)
			simd.Axpy(-s*s*simd.Dot(dxr, xr)/float32(dim), xr, dxr)
		}
	})
}

// normWeightBackward computes dw += Σ_rows dy·(x-mean)·inv and db += Σ_rows dy; mean may be nil for 0, dw or db for unwanted.
func normWeightBackward(dw, db, dy, x, mean, inv []float32, rows, dim int) {
	pool.For(dim, stripe, func(lo, hi int) {
		for r := range rows {
			dyr := dy[r*dim+lo:][:hi-lo]
			if dw != nil {
				simd.MulAdd(inv[r], dyr, x[r*dim+lo:][:hi-lo], forRow(dw, r, dim)[lo:hi])
			}
			if dw != nil && mean != nil {
				simd.Axpy(-mean[r]*inv[r], dyr, forRow(dw, r, dim)[lo:hi])
			}
			if db != nil {
				simd.Axpy(1, dyr, forRow(db, r, dim)[lo:hi])
			}
		}
	})
}

// LayerNorm computes y = (x-mean)·inv·w + b with the mean of each row and inv = 1/√(variance+eps) (Ba et al.,
// arXiv 1607.06450). x and y are [rows, dim] and may alias, w and b are [dim] or nil for ones and zeros, mean and inv
// are [rows] or nil if not wanted.
func LayerNorm(y, mean, inv, x, w, b []float32, rows, dim int, eps float32) {
	if rows*dim <= pool.BlockElements {
		layerNorm(y, mean, inv, x, w, b, 0, rows, dim, eps)
		return
	}
	pool.For(rows, pool.Grain(dim), func(lo, hi int) { layerNorm(y, mean, inv, x, w, b, lo, hi, dim, eps) })
}

func layerNorm(y, mean, inv, x, w, b []float32, lo, hi, dim int, eps float32) {
	for r := lo; r < hi; r++ {
		xr, yr := x[r*dim:][:dim], y[r*dim:][:dim]
		// Two passes: E[x²]-E[x]² cancels where the mean is large.
		mu := simd.Sum(xr) / float32(dim)
		simd.Affine(yr, xr, 1, -mu)
		s := rsqrt(simd.Dot(yr, yr)/float32(dim) + eps)
		if mean != nil {
			mean[r] = mu
		}
		if inv != nil {
			inv[r] = s
		}
		scaleShift(yr, yr, s, 0, forRow(w, r, dim), forRow(b, r, dim))
	}
}

// LayerNormBackward writes dx and adds to dw and db (nil if not wanted), given dy and what LayerNorm saw and returned.
// With g = dy·w and n = (x-mean)·inv: dx = inv·(g - mean(g) - n·mean(g·n)), dw = Σ_rows dy·n, db = Σ_rows dy.
// dx may alias dy only if dw and db are nil.
func LayerNormBackward(dx, dw, db, dy, x, w, mean, inv []float32, rows, dim int) {
	if dw != nil || db != nil {
		normWeightBackward(dw, db, dy, x, mean, inv, rows, dim)
	}
	pool.For(rows, pool.Grain(dim), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			layerNormRowBackward(dx[r*dim:][:dim], dy[r*dim:][:dim], x[r*dim:][:dim], forRow(w, r, dim), mean[r], inv[r])
		}
	})
}

func layerNormRowBackward(dx, dy, x, w []float32, mean, inv float32) {
	scaleShift(dx, dy, inv, 0, w, nil)
	n := float32(len(dx))
	sum := simd.Sum(dx)
	slope := (simd.Dot(dx, x) - mean*sum) * inv * inv / n
	simd.Axpy(-slope, x, dx)
	simd.Affine(dx, dx, 1, mean*slope-sum/n)
}
