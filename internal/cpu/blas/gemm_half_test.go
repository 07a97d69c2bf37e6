package blas

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

var formats = []simd.Half{simd.BF16, simd.F16}

// TestGemmNTHalf holds a product with encoded weights to its definition and, but for matrix instructions, bit by bit to the product with
// the same weights decoded before.
func TestGemmNTHalf(t *testing.T) {
	sizes := [][3]int{
		{1, 1, 1},
		{1, 9, 33},
		{2, 3, 130},
		{3, 33, 17},
		{2, 13, 48},
		{3, 34, 96},
		{8, 130, 300},
		{9, 70, 64},
		{16, 67, 1200},
		{1, 48, 96},
		{3, 97, 64},
		{8, 100, 1056},
		{16, 33, 32},
		{17, 5, 30},
		{29, 47, 16},
		{33, 65, 259},
		{70, nc + 21, kc + 3},
	}
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range sizes {
			if testing.Short() && s[0]*s[1]*s[2] > 1<<21 {
				continue
			}
			for i, beta := range []float32{0, 1, 0.5} {
				checkGemmNTHalf(t, formats[i%2], s[0], s[1], s[2], beta)
				checkGemmNTHalf(t, simd.BF16, s[0], s[1], s[2], beta)
			}
		}
	})
}

func checkGemmNTHalf(t *testing.T, h simd.Half, m, n, k int, beta float32) {
	t.Helper()
	x, lda, b, ldb, got, ldc := gemmCase{false, true, m, n, k, 1, beta}.operands()
	w := make([]uint16, len(b))
	EncodeHalf(h, w, b)
	DecodeHalf(h, b, w)
	want, plain := slices.Clone(got), slices.Clone(got)
	GemmNTHalf(h, m, n, k, x, lda, w, ldb, beta, got, ldc)
	what := fmt.Sprintf("format %d, m %d, n %d, k %d, beta %v: y", h, m, n, k, beta)
	GemmNTHalfRef(h, m, n, k, x, lda, w, ldb, beta, want, ldc)
	cputest.Compare(t, what, got, want, 2*(1e-6+1.2e-7*float64(k)))
	Gemm(false, true, m, n, k, 1, x, lda, b, ldb, beta, plain, ldc)
	if simd.AMX() == nil {
		cputest.Same(t, what, got, plain)
	}
}

func TestGemmNTHalfThreads(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, m := range []int{3, 100} {
			const n, k = 1500, 96
			x, w := cputest.Normal(1, m*k), make([]uint16, n*k)
			EncodeHalf(simd.BF16, w, cputest.Normal(2, n*k))
			cputest.WithThreads(t, func() []float32 {
				y := cputest.Poisoned(m * n)
				GemmNTHalf(simd.BF16, m, n, k, x, k, w, k, 0, y, n)
				return y
			})
		}
	})
}

func TestGemmNTHalfAllocatesNothing(t *testing.T) {
	defer pool.SetThreads(0)
	for _, m := range []int{1, 8, 40} {
		const n, k = 512, 512
		x, w, y := cputest.Normal(1, m*k), make([]uint16, n*k), make([]float32, m*n)
		for threads := 1; threads <= 2; threads++ {
			pool.SetThreads(threads)
			f := func() { GemmNTHalf(simd.F16, m, n, k, x, k, w, k, 0, y, n) }
			if allocs := testing.AllocsPerRun(20, f); allocs >= 1 {
				t.Errorf("m %d, threads %d: %v allocations", m, threads, allocs)
			}
		}
	}
}

// TestGemmNTPacked holds a product with packed weights to its definition: where there is no packing, PackHalf says so.
func TestGemmNTPacked(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range [][3]int{{1, 16, 32}, {3, 80, 96}, {8, 64, 1056}, {16, 208, 64}, {17, 144, 32}, {301, 96, 64}, {2, 70, 64}, {2, 64, 40}} {
			m, n, k := s[0], s[1], s[2]
			x, w := cputest.Normal(1, m*k), make([]uint16, n*k)
			EncodeHalf(simd.BF16, w, cputest.Normal(2, n*k))
			packed := PackHalf(simd.BF16, n, k, w)
			if can := simd.AMX() != nil && n%simd.AMXRows == 0 && k%simd.AMXDepth == 0; can != (packed != nil) {
				t.Fatalf("%v: packed is %v", s, packed)
			}
			if packed == nil {
				continue
			}
			want := cputest.Poisoned(m * n)
			GemmNTHalfRef(simd.BF16, m, n, k, x, k, w, k, 0, want, n)
			cputest.WithThreads(t, func() []float32 {
				y := cputest.Poisoned(m*(n+3) + 1)
				GemmNTPacked(m, x, k, packed, y, n+3)
				rows := make([]float32, 0, m*n)
				for i := range m {
					rows = append(rows, y[i*(n+3):][:n]...)
					if next := y[i*(n+3)+n]; next == next {
						t.Fatalf("%v: wrote behind row %d", s, i)
					}
				}
				cputest.Compare(t, fmt.Sprintf("%v: y", s), rows, want, 2*(1e-6+1.2e-7*float64(k)))
				return rows
			})
		}
	})
}
