package blas

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// gemmCase is a product with its operands in rows longer than needed.
type gemmCase struct {
	ta, tb      bool
	m, n, k     int
	alpha, beta float32
}

func (c gemmCase) String() string {
	return fmt.Sprintf("ta=%v/tb=%v/m=%d/n=%d/k=%d/alpha=%g/beta=%g", c.ta, c.tb, c.m, c.n, c.k, c.alpha, c.beta)
}

func storedAs(trans bool, rows, cols int) (int, int) {
	if trans {
		return cols, rows
	}
	return rows, cols
}

// operands returns A, B and C with their strides. The padding of A and B, and C if beta is 0, is NaN.
func (c gemmCase) operands() (a []float32, lda int, b []float32, ldb int, out []float32, ldc int) {
	fill := func(seed uint64, rows, cols, ld int) []float32 {
		s, values := cputest.Poisoned((rows-1)*ld+cols), cputest.Normal(seed, rows*cols)
		for r := range rows {
			copy(s[r*ld:][:cols], values[r*cols:])
		}
		return s
	}
	rows, cols := storedAs(c.ta, c.m, c.k)
	lda = cols + 3
	a = fill(1, rows, cols, lda)
	rows, cols = storedAs(c.tb, c.k, c.n)
	ldb = cols + 5
	b = fill(2, rows, cols, ldb)
	ldc = c.n + 2
	out = cputest.Poisoned((c.m-1)*ldc + c.n)
	if c.beta != 0 {
		out = fill(3, c.m, c.n, ldc)
	}
	return a, lda, b, ldb, out, ldc
}

func (c gemmCase) check(t *testing.T) {
	t.Helper()
	a, lda, b, ldb, got, ldc := c.operands()
	want := slices.Clone(got)
	Gemm(c.ta, c.tb, c.m, c.n, c.k, c.alpha, a, lda, b, ldb, c.beta, got, ldc)
	GemmRef(c.ta, c.tb, c.m, c.n, c.k, c.alpha, a, lda, b, ldb, c.beta, want, ldc)
	// A partial sum of products of normal numbers is about √k, and √k roundings of 2⁻²⁴ of it add up: 6e-8·k. Twice that.
	tol := (1e-6 + 1.2e-7*float64(c.k)) * float64(1+cputest.Abs(c.alpha))
	cputest.Compare(t, c.String()+": C", got, want, tol)
}

func TestGemm(t *testing.T) {
	sizes := [][3]int{
		{1, 1, 1},
		{1, 7, 5},
		{2, 3, 130},
		{3, 33, 17},
		{5, 64, 64},
		{12, 100, 31},
		{16, 129, 70},
		{17, 5, 300},
		{29, 47, 16},
		{31, 65, 33},
		{14, 32, 256},
		{43, 97, 259},
		{130, 70, 65},
		{16, 9, 1200},
		{11, 30, 253},
	}
	factors := [][2]float32{{1, 0}, {1, 1}, {-1.5, 0}, {0.5, 0.25}, {0, 2}}
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range sizes {
			for _, f := range factors {
				for i := range 4 {
					gemmCase{i&1 != 0, i&2 != 0, s[0], s[1], s[2], f[0], f[1]}.check(t)
				}
			}
		}
	})
}

// TestGemmBlocks has sizes above every block of the cache blocking; they are skipped where they take seconds.
func TestGemmBlocks(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		cases := []gemmCase{
			{false, true, 29, nc + 21, kc + 3, 1, 0},
			{true, false, 2*mc*simd.Gemm().PanelRows + 9, 2*simd.Gemm().NR + 5, kc + 3, 2, 1},
			{true, true, 1300, simd.Gemm().NR, kc + 9, 1, 0},
			{false, false, 38, nc + 7, 59, 1, 1},
			{false, true, 1100, 70, 43, -0.5, 0},
			{false, true, 600, 300, 2, 1, 1},
		}
		for _, c := range cases {
			c.check(t)
		}
	})
}

// TestGemmAMX has products that are split for matrix instructions: whole and broken blocks, steps and panels of them.
func TestGemmAMX(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range [][3]int{
			{96, 96, 32}, {127, 123, 1}, {128, 160, 67}, {125, 96, blockDepth + 40}, {96, blockColumns + 59, 35}, {300, 65, 2*blockDepth + 1},
		} {
			for i := range 4 {
				gemmCase{i&1 != 0, i&2 != 0, s[0], s[1], s[2], 1, 0}.check(t)
				gemmCase{i&1 != 0, i&2 != 0, s[0], s[1], s[2], -0.5, 1}.check(t)
			}
		}
	})
}

// TestGemmPrecision has factors of all magnitudes: what is lost must be small beside each element's own sum of magnitudes.
func TestGemmPrecision(t *testing.T) {
	const m, n, k = 128, 128, 96
	spread := func(seed uint64) (s, magnitudes []float32) {
		s, magnitudes = cputest.Normal(seed, m*k), cputest.Normal(seed+10, m*k)
		for i, e := range magnitudes {
			s[i] *= float32(math.Exp2(math.Round(float64(8 * e))))
			magnitudes[i] = cputest.Abs(s[i])
		}
		return s, magnitudes
	}
	a, absA := spread(1)
	b, absB := spread(2)
	got, want, most := make([]float32, m*n), make([]float32, m*n), make([]float32, m*n)
	GemmRef(false, false, m, n, k, 1, a, k, b, n, 0, want, n)
	GemmRef(false, false, m, n, k, 1, absA, k, absB, n, 0, most, n)
	cputest.OnPaths(t, func(t *testing.T) {
		Gemm(false, false, m, n, k, 1, a, k, b, n, 0, got, n)
		for i := range got {
			if d := cputest.Abs(got[i] - want[i]); d > 1e-6*most[i] {
				t.Fatalf("element %d is %g, want %g: off by %g of a sum of magnitudes of %g", i, got[i], want[i], d, most[i])
			}
		}
	})
}

// TestGemmFewRows has every number of rows that a product has its own path for, and depths with and without whole registers.
func TestGemmFewRows(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for m := 1; m <= fewRows; m++ {
			gemmCase{false, true, m, 7, 64, 1, 0}.check(t)
			gemmCase{false, true, m, 3, 53, -0.5, 1}.check(t)
			gemmCase{false, true, m, 5, 1100, 1, 0}.check(t)
			gemmCase{false, false, m, 70, 21, 2, 1}.check(t)
		}
		cputest.EitherWay(func() {
			for _, k := range []int{1, 16, 53, 64, 100, 1100, 3100} {
				gemmCase{false, true, 1, 13, k, 1, 0}.check(t)
				gemmCase{false, true, 1, 6, k, -0.5, 1}.check(t)
				for _, h := range formats {
					checkGemmNTHalf(t, h, 1, 13, pool.RoundUp(k, simd.MaxLanes), 1)
				}
			}
		})
	})
}

func TestGemmEmpty(t *testing.T) {
	c := []float32{cputest.NaN, 1}
	Gemm(false, false, 1, 1, 0, 1, nil, 0, nil, 1, 0, c, 1)
	cputest.Same(t, "a product of depth 0", c, []float32{0, 1})
	Gemm(false, false, 0, 5, 3, 1, nil, 3, nil, 5, 0, nil, 5)
	Gemm(false, false, 5, 0, 3, 1, nil, 3, nil, 0, 0, nil, 0)
}

func TestGemmThreads(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, c := range []gemmCase{
			{false, true, 4, 3000, 100, 1, 0},
			{false, false, 4, 3000, 100, 1, 0},
			{true, false, 300, 600, 70, 1, 0},
			{false, false, 900, 500, 200, 1, 0},
			{false, true, 1050, 100, 530, 1, 1},
			{true, true, 333, 1100, 700, -0.5, 1}, // B split for all threads, by columns
			{false, true, 289, 1030, 1300, 1, 0},  // and by depth, so that it is more than is split at a time
			{false, false, 600, 70, 129, 1, 1},
		} {
			if simd.Path() == "ref" && c.m*c.n*c.k > 1<<28 { // which has no threads
				continue
			}
			if testing.Short() && (simd.Path() == "ref" || simd.Path() == "go") && c.m*c.n*c.k > 1<<24 {
				continue
			}
			cputest.WithThreads(t, func() []float32 {
				a, lda, b, ldb, out, ldc := c.operands()
				Gemm(c.ta, c.tb, c.m, c.n, c.k, c.alpha, a, lda, b, ldb, c.beta, out, ldc)
				return out
			})
		}
	})
}

// TestGemmHeldUp is for threads that do each other's tasks, as they do where other programs take a core from one of them: now and
// then a task takes long.
func TestGemmHeldUp(t *testing.T) {
	amx := simd.AMX()
	if amx == nil {
		t.Skip("this processor has no matrix instructions")
	}
	panels := amx.Panels
	defer func() { amx.Panels = panels; pool.SetThreads(0) }()
	c := gemmCase{false, true, 289, 1030, 2600, 1, 0} // two parts of B, of ten depths each
	a, lda, b, ldb, _, ldc := c.operands()
	product := func(threads int) []float32 {
		pool.SetThreads(threads)
		out := make([]float32, c.m*ldc)
		Gemm(c.ta, c.tb, c.m, c.n, c.k, c.alpha, a, lda, b, ldb, c.beta, out, ldc)
		return out
	}
	want := product(1)
	var calls atomic.Int64
	amx.Panels = func(n, steps int, a, b, c []float32, ldc int, acc bool) {
		if calls.Add(1)%29 == 0 {
			time.Sleep(3 * time.Millisecond)
		}
		panels(n, steps, a, b, c, ldc, acc)
	}
	for range 12 {
		cputest.Same(t, "with tasks that take long, result", product(2), want)
	}
}

func TestGemmAllocatesNothing(t *testing.T) {
	defer pool.SetThreads(0)
	for _, m := range []int{1, 8, 40, 96, 300} {
		const n, k = 512, 512
		a, b, c := cputest.Normal(1, m*k), cputest.Normal(2, n*k), make([]float32, m*n)
		for threads := 1; threads <= 2; threads++ {
			pool.SetThreads(threads)
			f := func() { Gemm(false, true, m, n, k, 1, a, k, b, k, 0, c, n) }
			if allocs := testing.AllocsPerRun(20, f); allocs >= 1 {
				t.Errorf("m %d, threads %d: %v allocations", m, threads, allocs)
			}
		}
	}
}
