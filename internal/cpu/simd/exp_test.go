package simd_test

import (
	"math"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

func TestExp(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		var x []float32
		for v := float32(-87.3); v < 88.7; v += 0.0137 {
			x = append(x, v)
		}
		y := cputest.Poisoned(len(x))
		for i, v := range x {
			simd.ExpSum(y[i:i+1], x[i:i+1], 0)
			if i%16 == 0 {
				simd.ExpSum(y[:i+1], x[:i+1], 0)
			}
			want := math.Exp(float64(v))
			if d := math.Abs(float64(y[i])-want) / want; !(d < 2.5e-7) {
				t.Fatalf("exp(%v) = %v, want %v: %g off", v, y[i], want, d)
			}
		}
		edge := []float32{0, -1e9, float32(math.Inf(-1)), 89, cputest.NaN}
		sum := simd.ExpSum(edge[:4], edge[:4], 0)
		simd.ExpSum(edge[4:], edge[4:], 0)
		far := []float32{300, 1e9, float32(math.Inf(1)), 89, 300}
		simd.ExpSum(far, far, 0)
		for i, v := range far {
			if !math.IsInf(float64(v), 1) {
				t.Errorf("exp of number %d of 300, 1e9, +Inf, 89, 300 is %v, want +Inf", i, v)
			}
		}
		if edge[0] != 1 || edge[1] > 1e-38 || edge[2] != 0 || !math.IsInf(float64(edge[3]), 1) || !math.IsInf(float64(sum), 1) || edge[4] == edge[4] {
			t.Errorf("exp(0, -1e9, -Inf, 89, NaN) = %v, sum of the first four %v", edge, sum)
		}
	})
}

func TestCDF(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		var x []float32
		for v := float32(-14); v < 14; v += 0.0031 {
			x = append(x, v)
		}
		y := cputest.Poisoned(len(x))
		simd.NormalCDF(y, x)
		for i, v := range x {
			want := 0.5 * math.Erfc(-float64(v)/math.Sqrt2)
			// The density's exponent has the rounding of x²/2, relative to the result: up to 5e-6 in the far tail.
			if d := math.Abs(float64(y[i]) - want); !(d <= 2e-7*min(1, want*(2+float64(v)*float64(v)))+1e-37) {
				t.Fatalf("Φ(%v) = %v, want %v: %g off", v, y[i], want, d)
			}
		}
		edge := []float32{0, float32(math.Inf(1)), float32(math.Inf(-1)), cputest.NaN}
		simd.NormalCDF(edge, edge)
		cputest.Compare(t, "Φ(0, +Inf, -Inf, NaN)", edge, []float32{0.5, 1, 0, cputest.NaN}, 1e-7)
	})
}
