package spago

import (
	"math"
	"math/rand/v2"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/golden"
)

// TestGradient compares the whole model's gradient with central differences of its loss, (L(w+hd) - L(w-hd)) / 2h, for every
// weight along three directions d: the gradient's own, a random one, and single entries. The loss is about 4 and computed
// in float32: its rounding, about 1e-6, becomes 1e-6/2h; the formula itself is wrong by h²/6 of the third derivative.
// h = 4e-3 balances the two near 2e-4 for derivatives that are from 1e-3 to 1 in size.
func TestGradient(t *testing.T) {
	const h, absolute, relative = 4e-3, 4e-4, 0.01
	for name, config := range golden.Tiny {
		t.Run(name, func(t *testing.T) {
			trainer, _ := tinyTrainer(t, config, func(*recipe.Optimizer) {})
			b, targets := nextTokens(golden.Windows(3, 3, 9, 40))
			if name == "llama" { // with documents
				b, targets = data.Packed{}.Batch(packedWindows())
			}
			if _, err := trainer.Accumulate(b, targets, nil, 1); err != nil {
				t.Fatal(err)
			}
			// shifted is the loss with w moved by h along d.
			shifted := func(w, d []float32, h float32) float64 {
				before := append([]float32(nil), w...)
				for i := range w {
					w[i] += h * d[i]
				}
				defer copy(w, before)
				return trainer.Evaluate(b, targets)
			}
			r := rand.New(rand.NewPCG(5, 6))
			for _, s := range trainer.optimizer.slots {
				w, grad := Data(s.param).F32(), Grad(s.param).F32()
				if grad == nil {
					t.Errorf("%s has no gradient", s.name)
					continue
				}
				for kind, d := range directions(r, grad) {
					want := 0.0
					for i := range d {
						want += float64(d[i]) * float64(grad[i])
					}
					got := (shifted(w, d, h) - shifted(w, d, -h)) / (2 * h)
					if math.Abs(got-want) > absolute+relative*math.Abs(want) {
						t.Errorf("%s, %s: difference quotient %v, gradient %v", s.name, kind, got, want)
					}
				}
			}
		})
	}
}

// directions returns unit vectors to check a gradient along.
func directions(r *rand.Rand, grad []float32) map[string][]float32 {
	along, random := append([]float32(nil), grad...), make([]float32, len(grad))
	for i := range random {
		random[i] = float32(r.NormFloat64())
	}
	all := map[string][]float32{"its own direction": normalised(along), "a random direction": normalised(random)}
	for _, name := range []string{"entry a", "entry b", "entry c"} {
		entry := make([]float32, len(grad))
		entry[r.IntN(len(grad))] = 1
		all[name] = entry
	}
	return all
}

func normalised(d []float32) []float32 {
	sum := 0.0
	for _, x := range d {
		sum += float64(x) * float64(x)
	}
	for i := range d {
		d[i] /= float32(math.Sqrt(sum) + 1e-30)
	}
	return d
}
