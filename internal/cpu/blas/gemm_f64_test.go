package blas

import (
	"fmt"
	"testing"

	"gqa/internal/cpu/cputest"
)

// TestGemmNTF64 wants GemmRef's results but for the order of sums in float64.
func TestGemmNTF64(t *testing.T) {
	for _, s := range []struct{ m, n, k int }{{1, 1, 1}, {1, 4, 7}, {3, 5, 0}, {2, 131, 96}, {58, 96, 80}, {33, 66, 300}} {
		t.Run(fmt.Sprintf("m=%d,n=%d,k=%d", s.m, s.n, s.k), func(t *testing.T) {
			x, w, want := cputest.Normal(1, s.m*s.k), cputest.Normal(2, s.n*s.k), cputest.Poisoned(s.m*s.n)
			GemmRef(false, true, s.m, s.n, s.k, 1, x, s.k, w, s.k, 0, want, s.n)
			cputest.WithThreads(t, func() []float32 {
				got := cputest.Poisoned(s.m * s.n)
				GemmNTF64(s.m, s.n, s.k, x, w, got)
				cputest.Compare(t, "y", got, want, 1e-7)
				return got
			})
		})
	}
}
