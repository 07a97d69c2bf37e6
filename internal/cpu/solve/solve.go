// Package solve solves systems of linear equations in float64.
package solve

import (
	"context"
	"sync/atomic"

	"gonum.org/v1/gonum/mat"

	"gqa/internal/cpu/pool"
)

// rowsAtOnce is the number of rows of X that are solved for at a time, so that their sums fit in the cache.
const rowsAtOnce = 64

// Symmetric returns the X [m, n] with X·(S + damp·I) = C, for a symmetric S [n, n] and C [m, n]. It returns nil if S + damp·I is not
// positive definite, or if ctx ends before.
func Symmetric(ctx context.Context, s, c []float32, n int, damp float64) []float64 {
	square := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			square.SetSym(i, j, float64(s[i*n+j]))
		}
		square.SetSym(i, i, square.At(i, i)+damp)
	}
	factored := factorize(ctx, square)
	if factored == nil {
		return nil
	}
	m := len(c) / n
	x := make([]float64, m*n)
	var failed atomic.Bool
	pool.For(m, rowsAtOnce, func(lo, hi int) {
		if ctx.Err() != nil || failed.Load() {
			return
		}
		columns := mat.NewDense(n, hi-lo, nil)
		for i := lo; i < hi; i++ {
			for j, v := range c[i*n : (i+1)*n] {
				columns.Set(j, i-lo, float64(v))
			}
		}
		if factored.SolveTo(columns, columns) != nil {
			failed.Store(true)
		}
		for i := lo; i < hi; i++ {
			for j := range n {
				x[i*n+j] = columns.At(j, i-lo)
			}
		}
	})
	if failed.Load() || ctx.Err() != nil {
		return nil
	}
	return x
}

// factorize returns the Cholesky factor of m, nil if there is none. For a wide m it takes seconds and cannot be interrupted: if ctx
// ends, it continues in the background.
func factorize(ctx context.Context, m *mat.SymDense) *mat.Cholesky {
	factored, ok := new(mat.Cholesky), make(chan bool, 1)
	go func() { ok <- factored.Factorize(m) }()
	select {
	case ok := <-ok:
		if ok {
			return factored
		}
	case <-ctx.Done():
	}
	return nil
}
