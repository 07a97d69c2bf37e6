//go:build linux

package kernels

import (
	"testing"

	"gqa/internal/cpu/cputest"
)

// TestGemmBounds does so for products: the last row of each operand ends at a guard.
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
				for _, h := range halfFormats {
					GemmNTHalf(h, m, n, k, a, k, cputest.Guarded(t, make([]uint16, n*k)), k, 0, c, n)
				}
			})
		}
	})
}

// TestAttendBounds does so for attention of one query and of several.
func TestAttendBounds(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, heads := range []int{1, 2, 3, 5, 16, 20} {
			for _, dim := range []int{16, 36, 64, 80, 96} {
				for _, size := range [][2]int{{1, 45}, {1, 48}, {9, 45}} {
					c := attentionBench(2, size[0], size[1], heads, 1, dim, true)
					c.Causal = false
					for _, v := range []*View{&c.q, &c.k, &c.v, &c.out, &c.dout, &c.dq, &c.dk, &c.dv} {
						v.Data = cputest.Guarded(t, v.Data)
					}
					c.run()
					c.runBackward()
					for _, h := range halfFormats {
						half := *c
						half.k.Format, half.k.Half = h, cputest.Guarded(t, make([]uint16, len(c.k.Data)))
						half.v.Format, half.v.Half = h, cputest.Guarded(t, make([]uint16, len(c.v.Data)))
						half.run()
					}
				}
			}
		}
	})
}
