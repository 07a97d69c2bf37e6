package train

import (
	"fmt"
	"testing"

	"gqa/configs"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
)

// TestGoldenFamilies compares six AdamW steps with PyTorch's, for every family whose own class supports the grouped
// model, and of the unchanged model if its attention is latent.
func TestGoldenFamilies(t *testing.T) {
	compared := 0
	for _, c := range golden.Cases(t) {
		if src := golden.Open(t, c.Dir); src.Arch.IsLatent() {
			t.Run(c.Name, func(t *testing.T) {
				_, all := golden.Load(t, c.Dir)
				recipe := goldenRecipe(t, fmt.Sprintf("seq_len=%d", len(c.IDs[0])))
				goldenSteps(t, cpu.New(), c.Name, recipe, src.Arch, all, c.IDs, c.Floats(t, "train_loss_mha"), c.Floats(t, "grad_norm_mha"))
			})
		}
		if !c.Has("train_loss") {
			continue
		}
		compared++
		t.Run(c.Name, func(t *testing.T) {
			arch, all := grouped(t, c.Dir, 2)
			recipe := goldenRecipe(t, fmt.Sprintf("seq_len=%d", len(c.IDs[0])))
			goldenSteps(t, cpu.New(), c.Name, recipe, arch, all, c.IDs, c.Floats(t, "train_loss"), c.Floats(t, "grad_norm"))
		})
	}
	if compared < 10 {
		t.Errorf("only %d cases have losses to compare with", compared)
	}
}

// grouped reads a model and averages its KV heads within groups.
func grouped(t *testing.T, dir string, groups int) (*configs.Arch, map[string][]float32) {
	t.Helper()
	src, all := golden.Load(t, dir)
	params, err := src.Arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range params {
		if p.KVHeads > 0 {
			all[p.Name] = meanHeads(all[p.Name], p.KVHeads, groups)
		}
	}
	return src.Arch.WithKVHeads(groups), all
}
