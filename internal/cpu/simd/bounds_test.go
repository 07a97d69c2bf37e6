//go:build linux

package simd_test

import (
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

// TestBounds runs loops over operands that end at a guard, for every length of the last registers.
func TestBounds(t *testing.T) {
	const most = 70
	normals := func() []float32 { return cputest.Guarded(t, cputest.Normal(1, most)) }
	x, y, z, p, m, v, half := normals(), normals(), normals(), normals(), normals(), normals(), cputest.Guarded(t, make([]uint16, most))
	end := func(s []float32, n int) []float32 { return s[most-n:] }
	cputest.OnPaths(t, func(*testing.T) {
		for n := 1; n <= most; n++ {
			x, y, z, half := end(x, n), end(y, n), end(z, n), half[most-n:]
			simd.Dot(x, y)
			simd.Sum(x)
			simd.Max(x)
			simd.Add(z, x, y)
			simd.Mul(z, x, y)
			simd.Axpy(2, x, z)
			simd.MulAdd(2, x, y, z)
			simd.Scale(z, 0.5)
			simd.Affine(z, x, 2, 3)
			simd.Rotate(z, end(p, n), x, y, x, y, 1)
			simd.ExpSum(z, x, 1)
			simd.Sigmoid(z, x, 1, 0)
			simd.SiLUSlope(z, x, 1, 0)
			simd.NormalCDF(z, x)
			simd.AdamW(end(p, n), x, end(m, n), end(v, n), &simd.AdamWConstants{})
			for _, h := range []simd.Half{simd.BF16, simd.F16} {
				h.Encode(half, x)
				h.Decode(x, half)
			}
		}
	})
}
