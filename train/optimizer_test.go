package train

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gqa/internal/engine/spago"
)

func TestClipScale(t *testing.T) {
	for _, c := range []struct{ norm, limit, want float64 }{
		{0.5, 1, 1},
		{1, 1, 1 / (1 + 1e-6)}, // as torch does: no exception at the limit
		{4, 1, 1 / (4 + 1e-6)},
		{0, 1, 1},
		{4, 0, 1}, // no limit
		{1e30, 2, 2 / 1e30},
	} {
		if got := clipScale(c.norm, c.limit); float64(float32(c.want)) != float64(got) {
			t.Errorf("norm %v, limit %v: %v, want %v", c.norm, c.limit, got, c.want)
		}
	}
}

// The decay reaches matrices only, unless the recipe says otherwise; a weight without a gradient is not touched at all.
func TestDecay(t *testing.T) {
	for decay, norms := range map[string]float64{"matrices": 0, "all": 0.1} {
		arch, all := tinyModel(t, tinyConfigs["gpt2"])
		trainer, err := newTrainer(goldenRecipe(t, "optimizer.decay="+decay), arch, all)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range trainer.optimizer.slots {
			want := 0.1
			if len(s.shape) == 1 {
				want = norms
			}
			if s.decay != want {
				t.Errorf("decay %s: %s %v has %v, want %v", decay, s.name, s.shape, s.decay, want)
			}
		}
	}
}

func TestStepWithoutGradient(t *testing.T) {
	arch, all := tinyModel(t, tinyConfigs["gpt2"])
	trainer, err := newTrainer(goldenRecipe(t), arch, all)
	if err != nil {
		t.Fatal(err)
	}
	if err := trainer.accumulate(new(outcome), 0, randomWindows(1, 2, 9, arch.Vocab)); err != nil {
		t.Fatal(err)
	}
	frozen, before := trainer.optimizer.slots[1], clone(all)
	frozen.param.ZeroGrad()
	trainer.optimizer.step(1, 1e-3, trainer.optimizer.gradNorm())
	for name, w := range all {
		if same := slices.Equal(w, before[name]); same != (name == frozen.name) {
			t.Errorf("%s unchanged: %v; only %s had no gradient", name, same, frozen.name)
		}
	}
	if spago.Grad(trainer.optimizer.slots[0].param) != nil {
		t.Error("a gradient outlives its step")
	}
}

// A step that sees a number that is not finite leaves the weights alone.
func TestStepNotFinite(t *testing.T) {
	for _, poison := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		arch, all := tinyModel(t, tinyConfigs["llama"])
		trainer, err := newTrainer(goldenRecipe(t), arch, all)
		if err != nil {
			t.Fatal(err)
		}
		all["final_norm.weight"][0] = poison
		before := clone(all)
		if out, err := trainer.step(1, randomWindows(1, 2, 9, arch.Vocab)); err == nil {
			t.Errorf("a weight is %v: got %+v, want an error", poison, out)
		}
		if trainer.optimizer.finite() {
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

// Muon steps the layers' matrices, wherever a family keeps them; tables, heads, norms and biases go by AdamW.
func TestMuonWeights(t *testing.T) {
	for name, config := range tinyConfigs {
		arch, all := tinyModel(t, config)
		trainer, err := newTrainer(goldenRecipe(t, "optimizer.name=muon"), arch, all)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range trainer.optimizer.slots {
			matrix := len(s.shape) == 2 && strings.HasPrefix(s.name, "layers.")
			if byMuon := s.v == nil; byMuon != matrix {
				t.Errorf("%s: %s %v goes by Muon: %v", name, s.name, s.shape, byMuon)
			}
		}
	}
}

// A rate of attention's own reaches its projections and their biases, and nothing else.
func TestAttentionRate(t *testing.T) {
	for family, config := range tinyConfigs {
		arch, all := tinyModel(t, config)
		trainer, err := newTrainer(goldenRecipe(t, "optimizer.attention_rate=0"), arch, all)
		if err != nil {
			t.Fatal(err)
		}
		before := clone(all)
		if _, err := trainer.step(1, randomWindows(1, 2, 9, arch.Vocab)); err != nil {
			t.Fatal(err)
		}
		projection := regexp.MustCompile(`^layers\.\d+\.[qkvo]\.`)
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
	arch, all := tinyModel(t, tinyConfigs["llama"])
	plain, err := newTrainer(goldenRecipe(t), arch, clone(all))
	if err != nil {
		t.Fatal(err)
	}
	averaged, err := newTrainer(goldenRecipe(t, "optimizer.average=0.75"), arch, all)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]float64{}
	for n, share := range []float64{1, 1. / 2, 1. / 3, 1. / 4, 1. / 4, 1. / 4} {
		windows := randomWindows(uint64(n), 2, 9, arch.Vocab)
		for _, trainer := range []*trainer{plain, averaged} {
			if _, err := trainer.step(n+1, windows); err != nil {
				t.Fatal(err)
			}
		}
		for name, w := range plain.optimizer.result() {
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
		for name, mean := range averaged.optimizer.result() {
			for i, got := range mean {
				if math.Abs(float64(got)-want[name][i]) > 1e-6 {
					t.Fatalf("step %d: the average of %s[%d] is %v, want %v", n+1, name, i, got, want[name][i])
				}
			}
		}
	}
}
