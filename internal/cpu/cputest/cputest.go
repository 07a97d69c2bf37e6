// Package cputest helps to test the packages in internal/cpu: operands, comparisons, gradients by finite differences, and running a
// test on every path and number of threads.
package cputest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// NaN is a float32 that is not a number.
var NaN = float32(math.NaN())

// Normal returns n numbers of the standard normal distribution.
func Normal(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(rng.NormFloat64())
	}
	return s
}

// Poisoned returns n NaNs, which show what a kernel fails to write or must not read.
func Poisoned(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = NaN
	}
	return s
}

// Skipped reports whether case i of many is left out: four of five under the race detector and with -short, as in emulation.
func Skipped(i int) bool { return (Race || testing.Short()) && i%5 > 0 }

// Compare fails if got and want differ by more than tol·(1+|want|). Infinities and NaNs must be the same.
func Compare(t *testing.T, what string, got, want []float32, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i, g := range got {
		w := float64(want[i])
		if float64(g) == w || g != g && w != w {
			continue
		}
		if d := math.Abs(float64(g) - w); !(d <= tol*(1+math.Abs(w))) {
			t.Fatalf("%s[%d] = %v, want %v within %g", what, i, g, w, tol)
		}
	}
}

// Same fails unless got and want are equal bit by bit.
func Same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i, g := range got {
		if math.Float32bits(g) != math.Float32bits(want[i]) {
			t.Fatalf("%s[%d] = %v, want exactly %v", what, i, g, want[i])
		}
	}
}

// OnPaths runs a test on every path of this machine: with -short on the best and on that of Go, and only on the path that
// GQA_KERNELS names if it names one.
func OnPaths(t *testing.T, f func(t *testing.T)) {
	before := simd.Path()
	t.Cleanup(func() { _ = simd.SetPath(before) })
	names := simd.Paths()
	if testing.Short() {
		names = slices.Compact([]string{names[0], "go"})
	}
	if name := os.Getenv("GQA_KERNELS"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if err := simd.SetPath(name); err != nil {
			t.Fatal(err)
		}
		t.Run("path="+name, f)
	}
}

// EitherWay runs a test with both values of simd.HardwarePrefetch.
func EitherWay(f func()) {
	defer simd.SetHardwarePrefetch(simd.SetHardwarePrefetch(true))
	f()
	simd.SetHardwarePrefetch(false)
	f()
}

// WithThreads checks that f returns the same numbers for any number of threads.
func WithThreads(t *testing.T, f func() []float32) {
	t.Helper()
	defer pool.SetThreads(0)
	pool.SetThreads(1)
	want := f()
	for _, n := range []int{2, 3, 9} {
		pool.SetThreads(n)
		Same(t, fmt.Sprintf("with %d threads, result", n), f(), want)
	}
}

// CheckGradient compares a gradient with the central differences of loss, a sum in float64, with respect to x. Only
// about 40 elements are probed.
func CheckGradient(t *testing.T, what string, x, grad []float32, tol float64, loss func() float64) {
	t.Helper()
	const h = 1.0 / 256 // a power of two: x±h is exact for x near 1
	for i := 0; i < len(x); i += max(1, len(x)/40) {
		was := x[i]
		x[i] = was + h
		up := loss()
		x[i] = was - h
		down := loss()
		x[i] = was
		want := (up - down) / (2 * h)
		if d := math.Abs(float64(grad[i]) - want); !(d <= tol*(1+math.Abs(want))) {
			t.Fatalf("%s[%d] = %v, finite difference %v, want within %g", what, i, grad[i], want, tol)
		}
	}
}

// Weighted returns Σ w·y, the scalar whose gradient with respect to y is w.
func Weighted(w, y []float32) float64 {
	sum := 0.0
	for i, v := range y {
		sum += float64(w[i]) * float64(v)
	}
	return sum
}

// Benchmark runs f on every path but ref, with 1 and all threads. It reports rates from f's floating-point operations, work, and
// from the bytes that f reads and writes at least, unless they are 0.
func Benchmark(b *testing.B, name string, work, bytes float64, f func()) {
	before := simd.Path()
	defer func() { _ = simd.SetPath(before); pool.SetThreads(0) }()
	for _, path := range simd.Paths() {
		if path == "ref" {
			continue
		}
		_ = simd.SetPath(path)
		for _, threads := range slices.Compact([]int{1, runtime.GOMAXPROCS(0)}) {
			pool.SetThreads(threads)
			b.Run(fmt.Sprintf("path=%s/%s/threads=%d", path, name, threads), func(b *testing.B) {
				b.ReportAllocs()
				f()
				for b.Loop() {
					f()
				}
				rate := float64(b.N) / b.Elapsed().Seconds() / 1e9
				if work > 0 {
					b.ReportMetric(work*rate, "GFLOP/s")
				}
				if bytes > 0 {
					b.ReportMetric(bytes*rate, "GB/s")
				}
			})
		}
	}
}

// Abs returns the absolute value of x.
func Abs(x float32) float32 { return max(x, -x) }
