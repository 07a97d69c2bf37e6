//go:build linux

package blas

import (
	"testing"

	"gqa/internal/cpu/cputest"
)

// TestGemmBounds has operands whose last rows end at protected memory.
func TestGemmBounds(t *testing.T) {
	sizes := [][3]int{{1, 37, 19}, {1, 36, 19}, {1, 8, 48}, {3, 6, 5}, {7, 3, 33}, {14, 31, 16}, {16, 1, 8}, {25, 47, 9}, {33, 18, 70}, {90, 61, 67}, {127, 125, 37}}
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range sizes {
			m, n, k := s[0], s[1], s[2]
			a, b, c := cputest.Guarded(t, cputest.Normal(1, m*k)), cputest.Guarded(t, cputest.Normal(2, n*k)), cputest.Guarded(t, cputest.Normal(3, m*n))
			cputest.EitherWay(func() {
				for i := range 4 {
					_, lda := storedAs(i&1 != 0, m, k)
					_, ldb := storedAs(i&2 != 0, k, n)
					Gemm(i&1 != 0, i&2 != 0, m, n, k, 1, a, lda, b, ldb, 1, c, n)
				}
				for _, h := range formats {
					GemmNTHalf(h, m, n, k, a, k, cputest.Guarded(t, make([]uint16, n*k)), k, 0, c, n)
				}
			})
		}
	})
}
