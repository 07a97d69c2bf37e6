package blas

import (
	"fmt"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

func BenchmarkGemm(b *testing.B) {
	for _, s := range [][3]int{{128, 384, 384}, {512, 512, 512}, {1024, 1024, 1024}, {1000, 1000, 1000}} {
		for i, tb := range []bool{true, false} {
			m, n, k := s[0], s[1], s[2]
			x, w, y := cputest.Normal(1, m*k), cputest.Normal(2, n*k), make([]float32, m*n)
			ldb := []int{k, n}[i]
			name := fmt.Sprintf("tb=%v/m=%d/n=%d/k=%d", tb, m, n, k)
			cputest.Benchmark(b, name, 2*float64(m)*float64(n)*float64(k), 0, func() {
				Gemm(false, tb, m, n, k, 1, x, k, w, ldb, 0, y, n)
			})
		}
	}
}

// BenchmarkFewRows is the linear layer of decoding: 48 MiB of weights are read, more than a second-level cache holds.
func BenchmarkFewRows(b *testing.B) {
	const n, k = 12288, 1024
	w, half := cputest.Normal(2, n*k), make([]uint16, n*k)
	for _, m := range []int{1, 8, 16} {
		x, y := cputest.Normal(1, m*k), make([]float32, m*n)
		cputest.Benchmark(b, fmt.Sprintf("weights=f32/m=%d/n=%d/k=%d", m, n, k), 2*float64(m)*n*k, 4*n*k, func() {
			Gemm(false, true, m, n, k, 1, x, k, w, k, 0, y, n)
		})
		for h, format := range formatNames {
			cputest.Benchmark(b, fmt.Sprintf("weights=%s/m=%d/n=%d/k=%d", format, m, n, k), 2*float64(m)*n*k, 2*n*k, func() {
				GemmNTHalf(h, m, n, k, x, k, half, k, 0, y, n)
			})
		}
	}
}

var formatNames = map[simd.Half]string{simd.BF16: "bf16", simd.F16: "f16"}

func BenchmarkVectors(b *testing.B) {
	const n = 8192
	x, y := cputest.Normal(1, n), cputest.Normal(2, n)
	cputest.Benchmark(b, "op=dot", 0, 8*n, func() { Dot(x, y) })
	cputest.Benchmark(b, "op=axpy", 0, 12*n, func() { Axpy(0.5, x, y) })
}
