package spago

import (
	"maps"
	"math"
	"slices"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/golden"
)

const momentsConfig = `{"model_type": "llama", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
	"num_key_value_heads": 2, "intermediate_size": 100, "max_position_embeddings": 16}`

// Averages in fewer bits take that much less memory, are those of a few steps but for rounding, and are restored to the bit.
func TestMoments(t *testing.T) {
	results := map[recipe.Moments][]float32{}
	for moments, most := range map[recipe.Moments]float64{"": 1, recipe.MomentsF32: 1, recipe.MomentsBF16: 0.51, recipe.Moments8: 0.28} {
		trainer, all := tinyTrainer(t, momentsConfig, func(o *recipe.Optimizer) { o.Moments = moments })
		batch, targets := nextTokens(golden.Windows(1, 2, 9, trainer.model.Arch.Vocab))
		step := func(to *Trainer, n int) {
			if _, err := to.Accumulate(batch, targets, nil, 1); err != nil {
				t.Fatal(err)
			}
			to.Step(n, 1e-3)
		}
		step(trainer, 1)
		step(trainer, 2)
		bytes, whole := 0, 0
		for _, s := range trainer.optimizer.slots {
			for _, a := range []average{s.m, s.v} {
				if n := a.values.Len(); n >= storedFrom {
					bytes, whole = bytes+a.values.Format().Bytes(n)+4*a.scales.Len(), whole+4*n
				} else if a.values.Format() != device.F32 {
					t.Errorf("%s: %d numbers are stored otherwise", s.name, n)
				}
			}
		}
		if share := float64(bytes) / float64(whole); whole == 0 || share > most {
			t.Errorf("%q takes %.2f of the memory, want %v", moments, share, most)
		}
		if !trainer.Finite() {
			t.Errorf("%q: not finite", moments)
		}
		again, copied := tinyTrainer(t, momentsConfig, func(o *recipe.Optimizer) { o.Moments = moments })
		for name, w := range all {
			copy(copied[name], w)
		}
		for i, s := range again.State() {
			s.Set(slices.Clone(trainer.State()[i].Get()))
		}
		step(trainer, 3)
		step(again, 3)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			w := all[name]
			if !slices.Equal(w, copied[name]) {
				t.Errorf("%q: %s differs after its state was restored", moments, name)
			}
			results[moments] = append(results[moments], w...)
		}
		for i, s := range again.State() {
			if !slices.Equal(s.Get(), trainer.State()[i].Get()) {
				t.Errorf("%q: %s differs", moments, s.Name)
			}
		}
	}
	for moments, got := range results {
		off := 0.0
		for i, x := range results[""] {
			off += math.Abs(float64(x-got[i])) / float64(len(got))
		}
		if exact := moments == "" || moments == recipe.MomentsF32; off > 2e-4 || (off == 0) != exact {
			t.Errorf("%q: weights differ by %g on average after three steps", moments, off)
		}
	}
}
