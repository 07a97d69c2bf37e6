package kernels

import (
	"fmt"
	"math"
	"testing"
)

var lengths = []int{0, 1, 3, 4, 15, 16, 17, 31, 33, 64, 100, 257, 40000}

func TestVectors(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, n := range lengths {
			x, y := normal(1, n), normal(2, n)
			what := fmt.Sprintf("n %d: ", n)
			sum, axpy, scaled := poisoned(n), clone(y), clone(x)
			Add(sum, x, y)
			Axpy(1.5, x, axpy)
			Scale(scaled, -0.5)
			wantSum, wantAxpy, wantScaled, dot, squares := poisoned(n), poisoned(n), poisoned(n), 0.0, 0.0
			for i := range x {
				wantSum[i], wantAxpy[i], wantScaled[i] = x[i]+y[i], y[i]+1.5*x[i], x[i]*-0.5
				dot += float64(x[i]) * float64(y[i])
				squares += float64(x[i]) * float64(x[i])
			}
			same(t, what+"x+y", sum, wantSum)
			same(t, what+"x·s", scaled, wantScaled)
			compare(t, what+"y+s·x", axpy, wantAxpy, 1e-6)
			left, right, towards, wantTowards := clone(x), clone(y), clone(y), poisoned(n)
			Swap(left, right)
			same(t, what+"swapped", append(left, right...), append(clone(y), x...))
			Lerp(towards, x, 0.25)
			for i := range x {
				wantTowards[i] = 0.75*y[i] + 0.25*x[i]
			}
			compare(t, what+"a quarter of the way", towards, wantTowards, 1e-6)
			Lerp(towards, x, 1)
			same(t, what+"all the way", towards, x)
			Accumulate(x, y)
			same(t, what+"x+=y", x, wantSum)
			x = normal(1, n)
			compare(t, what+"x·y", []float32{Dot(x, y)}, []float32{float32(dot)}, 1e-4)
			if got := SumSquares(x); math.Abs(got-squares) > 1e-6*squares {
				t.Errorf("%sΣx² = %v, want %v", what, got, squares)
			}
			if n == 0 {
				continue
			}
			if got, want := kern.max(x), maxRef(x); got != want {
				t.Errorf("%smax %v, want %v", what, got, want)
			}
		}
	})
}

func TestRows(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 1}, {3, 7}, {5, 129}, {200, 150}} {
			rows, dim := s[0], s[1]
			y, b, db := normal(1, rows*dim), normal(2, dim), normal(3, dim)
			wantY, wantDB := clone(y), clone(db)
			for i := range y {
				wantDB[i%dim] += y[i]
				wantY[i] += b[i%dim]
			}
			SumRows(db, y, rows, dim)
			same(t, fmt.Sprintf("rows %d, dim %d: sum of rows", rows, dim), db, wantDB)
			AddRows(y, b, rows, dim)
			same(t, fmt.Sprintf("rows %d, dim %d: y+b", rows, dim), y, wantY)
		}
	})
}

func TestGatherScatter(t *testing.T) {
	const dim = 300
	table, ids := normal(1, 7*dim), []int32{3, 0, 6, 3, 3}
	y := poisoned(len(ids) * dim)
	Gather(y, table, ids, dim)
	want := clone(table)
	for i, id := range ids {
		same(t, "gathered row", y[i*dim:][:dim], table[int(id)*dim:][:dim])
		for j := range dim {
			want[int(id)*dim+j] += y[i*dim+j]
		}
	}
	withThreads(t, func() []float32 {
		got := clone(table)
		ScatterAdd(got, y, ids, dim)
		same(t, "scattered", got, want)
		return got
	})
}

func TestSumSquaresThreads(t *testing.T) {
	x := normal(1, 300001)
	withThreads(t, func() []float32 {
		s := SumSquares(x)
		return []float32{float32(s), math.Float32frombits(uint32(math.Float64bits(s)))}
	})
}

func TestAdamW(t *testing.T) {
	o := AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	onPaths(t, func(t *testing.T) {
		for _, n := range lengths {
			p, g, m, v := normal(1, n), normal(2, n), make([]float32, n), make([]float32, n)
			wantP, wantM, wantV := clone(p), clone(m), clone(v)
			for step := 1; step <= 4; step++ {
				o.Step(p, g, m, v, 0.7, step)
				o.StepRef(wantP, g, wantM, wantV, 0.7, step)
			}
			compare(t, fmt.Sprintf("n %d: p", n), p, wantP, 1e-6)
			compare(t, fmt.Sprintf("n %d: m", n), m, wantM, 1e-6)
			compare(t, fmt.Sprintf("n %d: v", n), v, wantV, 1e-6)
		}
	})
}

// TestAdamWFirstStep holds the first step to its closed form: m/(1-β1) = g, v/(1-β2) = g².
func TestAdamWFirstStep(t *testing.T) {
	o := AdamW{LR: 0.1, Beta1: 0.9, Beta2: 0.999, Eps: 0.5, Decay: 0.2}
	p, m, v := []float32{2}, []float32{0}, []float32{0}
	o.Step(p, []float32{-6}, m, v, 0.25, 1)
	want := 2*(1-0.1*0.2) - 0.1*-1.5/(1.5+0.5)
	compare(t, "p, m, v", []float32{p[0], m[0], v[0]}, []float32{float32(want), -0.15, 0.00225}, 1e-6)
}

// TestPlaces holds what loops make of an element to be the same wherever it lies: in whole registers, in the last one, alone.
func TestPlaces(t *testing.T) {
	const n = 53
	loops := map[string]func(z, x, y []float32){
		"add":     func(z, x, y []float32) { kern.add(z, x, y) },
		"mul":     func(z, x, y []float32) { kern.mul(z, x, y) },
		"axpy":    func(z, x, _ []float32) { kern.axpy(0.3, x, z) },
		"mulAdd":  func(z, x, y []float32) { kern.mulAdd(0.3, x, y, z) },
		"scale":   func(z, _, _ []float32) { kern.scale(z, 0.3) },
		"affine":  func(z, x, _ []float32) { kern.affine(z, x, 0.3, 0.7) },
		"rotate":  func(z, x, y []float32) { kern.rotate(z, x, x, y, y, z, -1) },
		"expSum":  func(z, x, _ []float32) { kern.expSum(z, x, 0.3) },
		"sigmoid": func(z, x, _ []float32) { kern.sigmoid(z, x, 1.6, 0.07) },
		"slope":   func(z, x, _ []float32) { kern.slope(z, x, 1.6, 0.07) },
		"cdf":     func(z, x, _ []float32) { kern.cdf(z, x) },
		"adamw": func(z, x, y []float32) {
			for i := range y {
				y[i] = abs(y[i])
			}
			kern.adamw(z, x, x, y, &adamwConstants{0.9, 0.99, 0.1, 0.95, 0.05, 1.1, 1e-8, 0.01})
		},
	}
	onPaths(t, func(t *testing.T) {
		for name, loop := range loops {
			together := [3][]float32{normal(1, n), normal(2, n), normal(3, n)}
			loop(together[0], together[1], together[2])
			for size := 1; size <= 3; size++ {
				apart := [3][]float32{normal(1, n), normal(2, n), normal(3, n)}
				for i := 0; i < n; i += size {
					end := min(i+size, n)
					loop(apart[0][i:end], apart[1][i:end], apart[2][i:end])
				}
				for i := range apart {
					same(t, fmt.Sprintf("%s, %d at a time: operand %d", name, size, i), apart[i], together[i])
				}
			}
		}
	})
}
