package train

import (
	"math"
	"testing"

	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// Gradients of a step are those of its micro-batches together.
func TestAccumulate(t *testing.T) {
	arch, all := golden.TinyModel(t, golden.Tiny["llama"])
	windows := golden.Windows(3, 4, 9, arch.Vocab)
	var norms []float64
	for _, sets := range [][]string{{"batch=4"}, {"batch=2", "accumulate=2"}, {"batch=1", "accumulate=4"}} {
		trainer, err := newTrainer(cpu.New(), goldenRecipe(t, sets...), arch, model.FromMap(arch, clone(all)))
		if err != nil {
			t.Fatal(err)
		}
		out, err := trainer.step(1, windows, nil)
		if err != nil {
			t.Fatal(err)
		}
		norms = append(norms, out.gradNorm)
	}
	for _, norm := range norms[1:] {
		if math.Abs(norm-norms[0]) > 1e-5*norms[0] {
			t.Errorf("gradient norms %v, want all equal", norms)
		}
	}
}
