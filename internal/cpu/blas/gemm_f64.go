package blas

import (
	"sync"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// GemmNTF64 computes Y[m,n] = X[m,k]·W[n,k]ᵀ, each sum in float64. Rows lie without gaps.
func GemmNTF64(m, n, k int, x, w, y []float32) {
	g := productsF64.Get().(*productF64)
	g.m, g.n, g.k, g.w, g.y = m, n, k, w, y
	g.x = memory.Grow(g.x, m*k)
	simd.ToFloat64(g.x, x[:m*k])
	pool.Run(n, pool.RoundUp(pool.Grain(m*k), rowsF64), g)
	g.w, g.y = nil, nil
	productsF64.Put(g)
}

// rowsF64 is how many rows of W are converted at a time.
const rowsF64 = 4

// productF64 is one call of GemmNTF64. A task is some rows of W.
type productF64 struct {
	m, n, k int
	x       []float64
	w, y    []float32
}

// workF64 is the scratch of a task: rows of W, and sums.
type workF64 struct{ w, sums []float64 }

var (
	productsF64 = sync.Pool{New: func() any { return new(productF64) }}
	worksF64    = sync.Pool{New: func() any { return new(workF64) }}
)

func (g *productF64) Block(lo, hi int) {
	work := worksF64.Get().(*workF64)
	for ; lo < hi; lo += rowsF64 {
		n := min(rowsF64, hi-lo)
		work.w, work.sums = memory.Grow(work.w, n*g.k), memory.Grow(work.sums, rowsF64)
		simd.ToFloat64(work.w, g.w[lo*g.k:][:n*g.k])
		for i := range g.m {
			simd.DotsF64(work.sums[:n], g.x[i*g.k:][:g.k], work.w, g.k)
			simd.ToFloat32(g.y[i*g.n+lo:], work.sums[:n])
		}
	}
	worksF64.Put(work)
}
