package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
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

// TestAttendF64 wants AttendRef's results, also of large scores, and for keys and values in 16 bits those for the same numbers
// in float32.
func TestAttendF64(t *testing.T) {
	for i, a := range attentionCases {
		for _, scale := range []float64{1 / math.Sqrt(float64(a.HeadDim)), 3} {
			t.Run(fmt.Sprintf("case=%d,scale=%.2g", i, scale), func(t *testing.T) {
				a.Scale = float32(scale)
				c := newAttentionCase(a, i%2 == 0)
				full := checkF64(t, c)
				c.k, _ = encoded(simd.BF16, c.k)
				c.v, _ = encoded(simd.F16, c.v)
				if half := checkF64(t, c); a.Keys > 1 && slices.Equal(full, half) {
					t.Error("keys and values of 16 bits give the same")
				}
			})
		}
	}
}

func checkF64(t *testing.T, c *attentionCase) []float32 {
	t.Helper()
	want := newAttentionCase(c.Attention, c.q.Row == c.HeadDim+3)
	AttendRef(c.Attention, want.out, nil, c.q, c.k, c.v)
	cputest.WithThreads(t, func() []float32 {
		fill(c.out.Data, cputest.NaN)
		AttendF64(c.Attention, c.out, c.q, c.k, c.v)
		cputest.Compare(t, "out", c.out.Data, want.out.Data, 1e-7)
		return written(c.Attention, c.out)
	})
	return written(c.Attention, c.out)
}
