package optim

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

func TestAdafactor(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, o := range []Adafactor{
			{LR: 1e-2, Rate: 0.8, Threshold: 1, Decay: 0.1, Scale: true}, {LR: 1e-2, Rate: 0.8, Threshold: 0.5}, {LR: 1e-2, Rate: 0.6, Threshold: 10},
		} {
			for _, s := range [][2]int{{1, 1}, {1, 7}, {16, 5}, {5, 16}, {130, 300}, {300, 130}} {
				rows, cols := s[0], s[1]
				n := rows * cols
				p, row, col := cputest.Normal(1, n), make([]float32, rows), make([]float32, cols)
				wantP, wantRow, wantCol := slices.Clone(p), slices.Clone(row), slices.Clone(col)
				for step := 1; step <= 4; step++ {
					g := cputest.Normal(uint64(1+step), n)
					o.Step(p, g, row, col, rows, cols, 0.7, step)
					o.StepRef(wantP, g, wantRow, wantCol, rows, cols, 0.7, step)
				}
				cputest.Compare(t, fmt.Sprintf("%v: rows", s), row, wantRow, 1e-6)
				cputest.Compare(t, fmt.Sprintf("%v: columns", s), col, wantCol, 1e-6)
				cputest.Compare(t, fmt.Sprintf("%v: p", s), p, wantP, 2e-6)
			}
			for _, n := range []int{1, 33, 1000} {
				p, v := cputest.Normal(1, n), make([]float32, n)
				wantP, wantV := slices.Clone(p), slices.Clone(v)
				for step := 1; step <= 4; step++ {
					g := cputest.Normal(uint64(1+step), n)
					o.StepWhole(p, g, v, 0.7, step)
					o.StepWholeRef(wantP, g, wantV, 0.7, step)
				}
				cputest.Compare(t, fmt.Sprintf("%d: v", n), v, wantV, 1e-6)
				cputest.Compare(t, fmt.Sprintf("%d: p", n), p, wantP, 2e-6)
			}
		}
	})
}

// The first step in closed form. A gradient that is a product of a column and a row has an update of ±1 everywhere.
func TestAdafactorFirstStep(t *testing.T) {
	p, g := []float32{3, 4, 0, -5}, []float32{1, -2, -3, 6}
	Adafactor{LR: 0.1, Rate: 0.8, Threshold: 0.5, Decay: 0.2, Scale: true}.Step(p, g, make([]float32, 2), make([]float32, 2), 2, 2, 1, 1)
	rate := 0.1 * math.Sqrt(50.0/4)
	var want []float32
	for i, x := range []float64{3, 4, 0, -5} {
		want = append(want, float32(x*(1-0.2*rate)-rate*0.5*[]float64{1, -1, -1, 1}[i]))
	}
	cputest.Compare(t, "p", p, want, 1e-6)
}

// A gradient of zeros changes nothing, in the first step and later.
func TestAdafactorZeros(t *testing.T) {
	p, row, col := cputest.Normal(1, 12), make([]float32, 3), make([]float32, 4)
	want := slices.Clone(p)
	for step := 1; step < 4; step++ {
		Adafactor{LR: 1, Rate: 0.8, Threshold: 1, Scale: true}.Step(p, make([]float32, 12), row, col, 3, 4, 1, step)
	}
	cputest.Same(t, "p", p, want)
}

func TestAdafactorThreads(t *testing.T) {
	cputest.WithThreads(t, func() []float32 {
		p, g := cputest.Normal(1, 200*700), cputest.Normal(2, 200*700)
		Adafactor{LR: 1, Rate: 0.8, Threshold: 1, Scale: true}.Step(p, g, make([]float32, 200), make([]float32, 700), 200, 700, 1, 1)
		return p
	})
}
