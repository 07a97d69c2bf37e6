package simd_test

import (
	"fmt"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

// TestPlaces holds what loops make of an element to be the same wherever it lies: in whole registers, in the last one, alone.
func TestPlaces(t *testing.T) {
	const n = 53
	loops := map[string]func(z, x, y []float32){
		"add":     func(z, x, y []float32) { simd.Add(z, x, y) },
		"mul":     func(z, x, y []float32) { simd.Mul(z, x, y) },
		"axpy":    func(z, x, _ []float32) { simd.Axpy(0.3, x, z) },
		"mulAdd":  func(z, x, y []float32) { simd.MulAdd(0.3, x, y, z) },
		"scale":   func(z, _, _ []float32) { simd.Scale(z, 0.3) },
		"affine":  func(z, x, _ []float32) { simd.Affine(z, x, 0.3, 0.7) },
		"rotate":  func(z, x, y []float32) { simd.Rotate(z, x, x, y, y, z, -1) },
		"expSum":  func(z, x, _ []float32) { simd.ExpSum(z, x, 0.3) },
		"sigmoid": func(z, x, _ []float32) { simd.Sigmoid(z, x, 1.6, 0.07) },
		"slope":   func(z, x, _ []float32) { simd.SiLUSlope(z, x, 1.6, 0.07) },
		"cdf":     func(z, x, _ []float32) { simd.NormalCDF(z, x) },
		"adamw": func(z, x, y []float32) {
			for i := range y {
				y[i] = max(y[i], -y[i])
			}
			simd.AdamW(z, x, x, y, &simd.AdamWConstants{0.9, 0.99, 0.1, 0.95, 0.05, 1.1, 1e-8, 0.01})
		},
	}
	cputest.OnPaths(t, func(t *testing.T) {
		for name, loop := range loops {
			together := [3][]float32{cputest.Normal(1, n), cputest.Normal(2, n), cputest.Normal(3, n)}
			loop(together[0], together[1], together[2])
			for size := 1; size <= 3; size++ {
				apart := [3][]float32{cputest.Normal(1, n), cputest.Normal(2, n), cputest.Normal(3, n)}
				for i := 0; i < n; i += size {
					end := min(i+size, n)
					loop(apart[0][i:end], apart[1][i:end], apart[2][i:end])
				}
				for i := range apart {
					cputest.Same(t, fmt.Sprintf("%s, %d at a time: operand %d", name, size, i), apart[i], together[i])
				}
			}
		}
	})
}
