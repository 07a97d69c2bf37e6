package nn

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

// TestAttendF64 wants AttendRef's results, also of large scores, and for keys and values in 16 bits those for the same numbers
// in float32.
func TestAttendF64(t *testing.T) {
	for i, a := range attentionCases {
		if cputest.Skipped(i) {
			continue
		}
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
