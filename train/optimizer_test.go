package train

import (
	"math"
	"regexp"
	"slices"
	"testing"

	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// A step that sees a number that is not finite leaves the weights alone.
func TestStepNotFinite(t *testing.T) {
	for _, poison := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		arch, all := golden.TinyModel(t, golden.Tiny["llama"])
		trainer, err := newTrainer(cpu.New(), goldenRecipe(t), arch, model.FromMap(arch, all))
		if err != nil {
			t.Fatal(err)
		}
		all["final_norm.weight"][0] = poison
		before := clone(all)
		if out, err := trainer.step(1, golden.Windows(1, 2, 9, arch.Vocab), nil); err == nil {
			t.Errorf("a weight is %v: got %+v, want an error", poison, out)
		}
		if trainer.Finite() {
			t.Errorf("a weight is %v: reported finite", poison)
		}
		delete(all, "final_norm.weight")
		for name, w := range all {
			if !slices.Equal(w, before[name]) {
				t.Errorf("a weight is %v: %s changed", poison, name)
			}
		}
	}
}

// A rate of attention's own reaches its projections and their biases, and nothing else.
func TestAttentionRate(t *testing.T) {
	for family, config := range golden.Tiny {
		arch, all := golden.TinyModel(t, config)
		trainer, err := newTrainer(cpu.New(), goldenRecipe(t, "optimizer.attention_rate=0"), arch, model.FromMap(arch, all))
		if err != nil {
			t.Fatal(err)
		}
		before := clone(all)
		if _, err := trainer.step(1, golden.Windows(1, 2, 9, arch.Vocab), nil); err != nil {
			t.Fatal(err)
		}
		projection := regexp.MustCompile(`^layers\.\d+\.([qkvo]|q_a|[qk]_rope|q_nope|latent|[kv]_up)\.`)
		for name, w := range all {
			if still := slices.Equal(w, before[name]); still != projection.MatchString(name) {
				t.Errorf("%s: %s unchanged: %v", family, name, still)
			}
		}
	}
}

// The average is the mean of the weights after each step until its span is full, and exponential from then on. It leaves
// the steps as they are.
func TestAverage(t *testing.T) {
	arch, all := golden.TinyModel(t, golden.Tiny["llama"])
	plain, err := newTrainer(cpu.New(), goldenRecipe(t), arch, model.FromMap(arch, clone(all)))
	if err != nil {
		t.Fatal(err)
	}
	averaged, err := newTrainer(cpu.New(), goldenRecipe(t, "optimizer.average=0.75"), arch, model.FromMap(arch, all))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]float64{}
	for n, share := range []float64{1, 1. / 2, 1. / 3, 1. / 4, 1. / 4, 1. / 4} {
		windows := golden.Windows(uint64(n), 2, 9, arch.Vocab)
		for _, trainer := range []*trainer{plain, averaged} {
			if _, err := trainer.step(n+1, windows, nil); err != nil {
				t.Fatal(err)
			}
		}
		for name := range all {
			w := plain.Result(name)
			if !slices.Equal(w, all[name]) {
				t.Fatalf("step %d: %s is another than without an average", n+1, name)
			}
			if want[name] == nil {
				want[name] = make([]float64, len(w))
			}
			for i, x := range w {
				want[name][i] += share * (float64(x) - want[name][i])
			}
		}
		for name := range all {
			for i, got := range averaged.Result(name) {
				if math.Abs(float64(got)-want[name][i]) > 1e-6 {
					t.Fatalf("step %d: the average of %s[%d] is %v, want %v", n+1, name, i, got, want[name][i])
				}
			}
		}
	}
}
