package optim

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

var lengths = []int{0, 1, 3, 4, 15, 16, 17, 31, 33, 64, 100, 257, 40000}

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
