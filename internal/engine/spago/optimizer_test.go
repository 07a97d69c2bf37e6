package spago

import (
	"slices"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/device/cpu"
	"gqa/internal/engine"
	"gqa/internal/golden"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// tinyTrainer trains one of golden.Tiny.
func tinyTrainer(t *testing.T, config string, change func(o *recipe.Optimizer)) (*Trainer, map[string][]float32) {
	t.Helper()
	arch, all := golden.TinyModel(t, config)
	o := recipe.Optimizer{Name: recipe.AdamW, LR: 1e-3, AttentionRate: 1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Decay: recipe.DecayAll, Clip: 1}
	change(&o)
	trainer, err := NewTrainer(cpu.New(), &recipe.Recipe{Optimizer: o}, engine.Economy{MicroBatches: 1}, arch, model.FromMap(arch, all))
	if err != nil {
		t.Fatal(err)
	}
	return trainer, all
}

// nextTokens returns windows as a batch, and the token after each token.
func nextTokens(windows [][]int32) (ops.Batch, []int32) {
	var targets []int32
	for i, w := range windows {
		windows[i] = w[:len(w)-1]
		targets = append(targets, w[1:]...)
	}
	return ops.NewBatch(windows...), targets
}

// The decay reaches matrices only, unless the recipe says otherwise; a weight without a gradient is not touched at all.
func TestDecay(t *testing.T) {
	for decay, norms := range map[string]float64{"matrices": 0, "all": 0.1} {
		trainer, _ := tinyTrainer(t, golden.Tiny["gpt2"], func(o *recipe.Optimizer) { o.Decay = recipe.Decay(decay) })
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
	trainer, all := tinyTrainer(t, golden.Tiny["gpt2"], func(*recipe.Optimizer) {})
	b, targets := nextTokens(golden.Windows(1, 2, 9, 40))
	if _, err := trainer.Accumulate(b, targets, nil, 1); err != nil {
		t.Fatal(err)
	}
	frozen, before := trainer.optimizer.slots[1], map[string][]float32{}
	for name, w := range all {
		before[name] = slices.Clone(w)
	}
	frozen.param.ZeroGrad()
	trainer.optimizer.step(1, 1e-3)
	for name, w := range all {
		if same := slices.Equal(w, before[name]); same != (name == frozen.name) {
			t.Errorf("%s unchanged: %v; only %s had no gradient", name, same, frozen.name)
		}
	}
	if !Grad(trainer.optimizer.slots[0].param).None() {
		t.Error("a gradient outlives its step")
	}
}

// Muon steps the layers' matrices, wherever a family stores them; tables, heads, norms and biases use AdamW.
func TestMuonWeights(t *testing.T) {
	for name, config := range golden.Tiny {
		trainer, _ := tinyTrainer(t, config, func(o *recipe.Optimizer) { o.Name = recipe.Muon })
		for _, s := range trainer.optimizer.slots {
			matrix := len(s.shape) == 2 && strings.HasPrefix(s.name, "layers.")
			if byMuon := s.v.none(); byMuon != matrix {
				t.Errorf("%s: %s %v goes by Muon: %v", name, s.name, s.shape, byMuon)
			}
		}
	}
}
