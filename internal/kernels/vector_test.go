package kernels

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

func TestRows(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 1}, {3, 7}, {5, 129}, {200, 150}} {
			rows, dim := s[0], s[1]
			y, b, db := cputest.Normal(1, rows*dim), cputest.Normal(2, dim), cputest.Normal(3, dim)
			wantY, wantDB := slices.Clone(y), slices.Clone(db)
			for i := range y {
				wantDB[i%dim] += y[i]
				wantY[i] += b[i%dim]
			}
			SumRows(db, y, rows, dim)
			cputest.Same(t, fmt.Sprintf("rows %d, dim %d: sum of rows", rows, dim), db, wantDB)
			AddRows(y, b, rows, dim)
			cputest.Same(t, fmt.Sprintf("rows %d, dim %d: y+b", rows, dim), y, wantY)
		}
	})
}

func TestGatherScatter(t *testing.T) {
	const dim = 300
	table, ids := cputest.Normal(1, 7*dim), []int32{3, 0, 6, 3, 3}
	y := cputest.Poisoned(len(ids) * dim)
	Gather(y, table, ids, dim)
	want := slices.Clone(table)
	for i, id := range ids {
		cputest.Same(t, "gathered row", y[i*dim:][:dim], table[int(id)*dim:][:dim])
		for j := range dim {
			want[int(id)*dim+j] += y[i*dim+j]
		}
	}
	cputest.WithThreads(t, func() []float32 {
		got := slices.Clone(table)
		ScatterAdd(got, y, ids, dim)
		cputest.Same(t, "scattered", got, want)
		return got
	})
}

func TestSumSquaresThreads(t *testing.T) {
	x := cputest.Normal(1, 300001)
	cputest.WithThreads(t, func() []float32 {
		s := SumSquares(x)
		return []float32{float32(s), math.Float32frombits(uint32(math.Float64bits(s)))}
	})
}

func TestAdamW(t *testing.T) {
	o := AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	cputest.OnPaths(t, func(t *testing.T) {
		for _, n := range lengths {
			p, g, m, v := cputest.Normal(1, n), cputest.Normal(2, n), make([]float32, n), make([]float32, n)
			wantP, wantM, wantV := slices.Clone(p), slices.Clone(m), slices.Clone(v)
			for step := 1; step <= 4; step++ {
				o.Step(p, g, m, v, 0.7, step)
				o.StepRef(wantP, g, wantM, wantV, 0.7, step)
			}
			cputest.Compare(t, fmt.Sprintf("n %d: p", n), p, wantP, 1e-6)
			cputest.Compare(t, fmt.Sprintf("n %d: m", n), m, wantM, 1e-6)
			cputest.Compare(t, fmt.Sprintf("n %d: v", n), v, wantV, 1e-6)
		}
	})
}

// TestAdamWFirstStep holds the first step to its closed form: m/(1-β1) = g, v/(1-β2) = g².
func TestAdamWFirstStep(t *testing.T) {
	o := AdamW{LR: 0.1, Beta1: 0.9, Beta2: 0.999, Eps: 0.5, Decay: 0.2}
	p, m, v := []float32{2}, []float32{0}, []float32{0}
	o.Step(p, []float32{-6}, m, v, 0.25, 1)
	want := 2*(1-0.1*0.2) - 0.1*-1.5/(1.5+0.5)
	cputest.Compare(t, "p, m, v", []float32{p[0], m[0], v[0]}, []float32{float32(want), -0.15, 0.00225}, 1e-6)
}
