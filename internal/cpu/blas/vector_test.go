package blas

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

var lengths = []int{0, 1, 3, 4, 15, 16, 17, 31, 33, 64, 100, 257, 40000}

func TestVectors(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, n := range lengths {
			x, y := cputest.Normal(1, n), cputest.Normal(2, n)
			what := fmt.Sprintf("n %d: ", n)
			sum, axpy, scaled := cputest.Poisoned(n), slices.Clone(y), slices.Clone(x)
			Add(sum, x, y)
			Axpy(1.5, x, axpy)
			Scale(scaled, -0.5)
			wantSum, wantAxpy, wantScaled, dot, squares := cputest.Poisoned(n), cputest.Poisoned(n), cputest.Poisoned(n), 0.0, 0.0
			for i := range x {
				wantSum[i], wantAxpy[i], wantScaled[i] = x[i]+y[i], y[i]+1.5*x[i], x[i]*-0.5
				dot += float64(x[i]) * float64(y[i])
				squares += float64(x[i]) * float64(x[i])
			}
			cputest.Same(t, what+"x+y", sum, wantSum)
			cputest.Same(t, what+"x·s", scaled, wantScaled)
			cputest.Compare(t, what+"y+s·x", axpy, wantAxpy, 1e-6)
			left, right, towards, wantTowards := slices.Clone(x), slices.Clone(y), slices.Clone(y), cputest.Poisoned(n)
			Swap(left, right)
			cputest.Same(t, what+"swapped", append(left, right...), append(slices.Clone(y), x...))
			Lerp(towards, x, 0.25)
			for i := range x {
				wantTowards[i] = 0.75*y[i] + 0.25*x[i]
			}
			cputest.Compare(t, what+"a quarter of the way", towards, wantTowards, 1e-6)
			Lerp(towards, x, 1)
			cputest.Same(t, what+"all the way", towards, x)
			Accumulate(x, y)
			cputest.Same(t, what+"x+=y", x, wantSum)
			x = cputest.Normal(1, n)
			cputest.Compare(t, what+"x·y", []float32{Dot(x, y)}, []float32{float32(dot)}, 1e-4)
			if got := SumSquares(x); math.Abs(got-squares) > 1e-6*squares {
				t.Errorf("%sΣx² = %v, want %v", what, got, squares)
			}
			if n == 0 {
				continue
			}
			if got, want := simd.Max(x), slices.Max(x); got != want {
				t.Errorf("%smax %v, want %v", what, got, want)
			}
		}
	})
}

func TestSumSquaresThreads(t *testing.T) {
	x := cputest.Normal(1, 300001)
	cputest.WithThreads(t, func() []float32 {
		s := SumSquares(x)
		return []float32{float32(s), math.Float32frombits(uint32(math.Float64bits(s)))}
	})
}

func TestShift(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		y := cputest.Poisoned(19)
		Shift(y, cputest.Normal(1, 19), 1)
		for i, x := range cputest.Normal(1, 19) {
			if y[i] != x+1 {
				t.Fatalf("%v, want %v", y[i], x+1)
			}
		}
	})
}
