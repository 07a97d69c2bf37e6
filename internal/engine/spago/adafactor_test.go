package spago

import (
	"math"
	"slices"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/cpu/optim"
	"gqa/internal/golden"
)

// Six steps are those of the definition, with the gradient clipped as a whole before each weight's update is.
func TestAdafactorSteps(t *testing.T) {
	scale := false
	for name, how := range map[string]recipe.AdafactorSettings{
		"relative": {DecayRate: 0.8, ClipThreshold: 1}, "absolute": {DecayRate: 0.6, ClipThreshold: 0.5, Scale: &scale},
	} {
		trainer, _ := tinyTrainer(t, golden.Tiny["llama"], func(o *recipe.Optimizer) {
			o.Name, o.LR, o.Adafactor, o.Decay, o.AttentionRate = recipe.Adafactor, 1e-2, how, recipe.DecayMatrices, 0.5
		})
		type averages struct{ p, row, col, v []float32 }
		want := make([]averages, len(trainer.optimizer.slots))
		for i, s := range trainer.optimizer.slots {
			n := s.param.Size()
			want[i] = averages{slices.Clone(valueOf(s.param).host()), make([]float32, s.shape[0]), make([]float32, n/s.shape[0]), make([]float32, n)}
		}
		batch, targets := nextTokens(golden.Windows(1, 2, 9, trainer.model.Arch.Vocab))
		for step := 1; step <= 6; step++ {
			if _, err := trainer.Accumulate(batch, targets, nil, 1); err != nil {
				t.Fatal(err)
			}
			grads, squares := make([][]float32, len(want)), 0.0
			for i, s := range trainer.optimizer.slots {
				grads[i] = slices.Clone(trainer.engine.device.Host(Grad(s.param)))
				for _, x := range grads[i] {
					squares += float64(x) * float64(x)
				}
			}
			norm, lr := math.Sqrt(squares), 1e-2/float64(step)
			if got := trainer.Step(step, lr)(); math.Abs(got-norm) > 1e-5*norm {
				t.Errorf("%s, step %d: the norm is %v, want %v", name, step, got, norm)
			}
			factor := float32(min(1, 1/(norm+1e-6)))
			for i, s := range trainer.optimizer.slots {
				o := optim.Adafactor{LR: lr, Rate: how.DecayRate, Threshold: how.ClipThreshold, Scale: how.Scales()}
				if isProjection := s.rate != 1; isProjection {
					o.LR *= 0.5
				}
				w := want[i]
				if len(s.shape) > 1 {
					o.Decay = 0.1
					o.StepRef(w.p, grads[i], w.row, w.col, s.shape[0], s.shape[1], factor, step)
				} else {
					o.StepWholeRef(w.p, grads[i], w.v, factor, step)
				}
				for k, x := range valueOf(s.param).host() {
					if math.Abs(float64(x)-float64(w.p[k])) > 1e-5 {
						t.Fatalf("%s, step %d: %s[%d] is %v, want %v", name, step, s.name, k, x, w.p[k])
					}
				}
			}
		}
	}
}

// The state is less than a tenth of AdamW's.
func TestAdafactorState(t *testing.T) {
	sizes := map[recipe.OptimizerName]int{}
	for _, rule := range []recipe.OptimizerName{recipe.AdamW, recipe.Adafactor} {
		trainer, _ := tinyTrainer(t, golden.Tiny["llama"], func(o *recipe.Optimizer) { o.Name = rule })
		for _, s := range trainer.State() {
			n := 1
			for _, d := range s.Shape {
				n *= d
			}
			if got := len(s.Get()); got != n {
				t.Errorf("%s has %d numbers, want %v", s.Name, got, s.Shape)
			}
			sizes[rule] += n
		}
	}
	if sizes[recipe.Adafactor]*10 >= sizes[recipe.AdamW] {
		t.Errorf("the state has %d numbers, AdamW's %d", sizes[recipe.Adafactor], sizes[recipe.AdamW])
	}
}
