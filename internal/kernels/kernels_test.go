package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"gqa/internal/cpu/pool"
)

var nan = float32(math.NaN())

// normal returns n numbers of the standard normal distribution.
func normal(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(rng.NormFloat64())
	}
	return s
}

// poisoned returns n NaNs: what a kernel fails to write, or reads without right, shows.
func poisoned(n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = nan
	}
	return s
}

func clone(s []float32) []float32 { return append([]float32(nil), s...) }

// compare fails if got and want differ by more than tol·(1+|want|). Infinities and NaNs must be the same.
func compare(t *testing.T, what string, got, want []float32, tol float64) {
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

// same fails unless got and want are equal bit by bit.
func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i, g := range got {
		if math.Float32bits(g) != math.Float32bits(want[i]) {
			t.Fatalf("%s[%d] = %v, want exactly %v", what, i, g, want[i])
		}
	}
}

// onPaths runs a test on every path of this machine, with -short on the best and on that of Go, or on the one that GQA_KERNELS names.
func onPaths(t *testing.T, f func(t *testing.T)) {
	before := Path()
	t.Cleanup(func() { _ = SetPath(before) })
	names := Paths()
	if testing.Short() {
		names = slices.Compact([]string{names[0], goPath.name})
	}
	if name := os.Getenv("GQA_KERNELS"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if err := SetPath(name); err != nil {
			t.Fatal(err)
		}
		t.Run("path="+name, f)
	}
}

// eitherWay runs a test as for a processor whose prefetching is left alone, and as for one where it is not.
func eitherWay(f func()) {
	defer func(before bool) { ownPrefetch = before }(ownPrefetch)
	for _, ownPrefetch = range []bool{true, false} {
		f()
	}
}

// withThreads checks that f returns the same numbers for 1, 2 and 3 threads.
func withThreads(t *testing.T, f func() []float32) {
	t.Helper()
	defer pool.SetThreads(0)
	pool.SetThreads(1)
	want := f()
	for _, n := range []int{2, 3, 9} {
		pool.SetThreads(n)
		same(t, fmt.Sprintf("with %d threads, result", n), f(), want)
	}
}

// checkGradient compares a gradient with the central differences of loss, a sum in float64, with respect to x. Only
// about 40 elements are probed.
func checkGradient(t *testing.T, what string, x, grad []float32, tol float64, loss func() float64) {
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

// weighted returns Σ w·y, the scalar whose gradient with respect to y is w.
func weighted(w, y []float32) float64 {
	sum := 0.0
	for i, v := range y {
		sum += float64(w[i]) * float64(v)
	}
	return sum
}

func TestSetPath(t *testing.T) {
	before := Path()
	defer func() { _ = SetPath(before) }()
	err := SetPath("mmx")
	if err == nil || !strings.Contains(err.Error(), "go") || Path() != before {
		t.Fatalf("SetPath(mmx) = %v, path now %s; want an error naming the paths, and %s", err, Path(), before)
	}
	if got := choose("mmx").name; got != Paths()[0] {
		t.Errorf("an unknown GQA_KERNELS chooses %s, want the best, %s", got, Paths()[0])
	}
	for _, name := range []string{"go", "ref"} {
		if err := SetPath(name); err != nil || Path() != name {
			t.Errorf("SetPath(%s) = %v, path now %s", name, err, Path())
		}
	}
}
