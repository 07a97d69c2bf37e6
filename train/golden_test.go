package train

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// The golden cases are tiny random checkpoints with the losses and gradient norms of six AdamW steps by PyTorch and
// transformers 5.17: learning rate 1e-3, betas 0.9 and 0.95, weight decay 0.1 on every parameter, clipped to 1.
const goldenTolerance = 1e-4

// goldenRecipe returns a recipe for the processor, whatever else the machine has: tests of GPUs name them.
func goldenRecipe(t testing.TB, sets ...string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range append([]string{
		"name=golden", "model=m", "data=d", "steps=6", "batch=2", "seq_len=24", "optimizer.lr=1e-3", "optimizer.decay=all",
		"schedule.kind=constant", "schedule.warmup=0", "device=cpu",
	}, sets...) {
		if err := r.Set(set); err != nil {
			t.Fatal(err)
		}
	}
	return &r
}

// goldenModel reads a case's model, with its KV heads pooled to two groups if they are not yet.
func goldenModel(t *testing.T, dir string) (arch *configs.Arch, all map[string][]float32, windows [][]int32) {
	t.Helper()
	src, all := golden.Load(t, filepath.Join(dir, "model.safetensors"))
	arch = src.Arch
	if arch.KVHeads != 2 {
		arch = src.Arch.WithKVHeads(2)
		for name, w := range all {
			if strings.Contains(name, ".k.") || strings.Contains(name, ".v.") {
				all[name] = meanHeads(w, src.Arch.KVHeads, 2)
			}
		}
	}
	ids := goldenTensor(t, dir, "input_ids")
	wide, err := ids.Int64()
	if err != nil {
		t.Fatal(err)
	}
	n := ids.Shape[1]
	for row := range ids.Shape[0] {
		window := make([]int32, n)
		for i := range window {
			window[i] = int32(wide[row*n+i])
		}
		windows = append(windows, window)
	}
	return arch, all, windows
}

// meanHeads averages the heads of w [heads, ...] within groups.
func meanHeads(w []float32, heads, groups int) []float32 {
	head, size := len(w)/heads, heads/groups
	out := make([]float32, groups*head)
	for i, x := range w {
		out[i/head/size*head+i%head] += x / float32(size)
	}
	return out
}

func goldenTensor(t *testing.T, dir, name string) *checkpoints.Tensor {
	t.Helper()
	ckpt, err := checkpoints.Open(filepath.Join(dir, "golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ckpt.Close() })
	tensor, ok := ckpt.Tensor(name)
	if !ok {
		t.Fatalf("%s has no %s", dir, name)
	}
	return tensor
}

func goldenFloats(t *testing.T, dir, name string) []float32 {
	t.Helper()
	values, err := goldenTensor(t, dir, name).Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestGoldenSteps(t *testing.T) {
	for name, dir := range map[string]string{"untied": "testdata/llama-g2", "tied": "testdata/llama-rope3"} {
		t.Run(name, func(t *testing.T) {
			arch, all, windows := goldenModel(t, dir)
			losses, norms := goldenFloats(t, dir, "train_loss"), goldenFloats(t, dir, "grad_norm")
			for variant, recipe := range map[string]*recipe.Recipe{
				"whole batch":  goldenRecipe(t),
				"accumulating": goldenRecipe(t, "batch=1", "accumulate=2"),
			} {
				goldenSteps(t, cpu.New(), variant, recipe, arch, clone(all), windows, losses, norms)
			}
		})
	}
}

// Six steps of torch.optim.Muon (2.11, adjust_lr_fn "match_rms_adamw", its products in float32 where it has bfloat16) for the layers'
// matrices, and of AdamW for the rest.
func TestGoldenMuon(t *testing.T) { goldenMuon(t, cpu.New()) }

func goldenMuon(t *testing.T, d device.Device) {
	t.Helper()
	arch, all, windows := goldenModel(t, "testdata/llama-g2")
	losses := []float32{6.088758945465088, 5.837445259094238, 5.592711925506592, 5.35512113571167, 5.124905586242676, 4.902258396148682}
	norms := []float32{6.195563316345215, 6.034475326538086, 5.853911399841309, 5.668150901794434, 5.479016304016113, 5.286457061767578}
	goldenSteps(t, d, "muon", goldenRecipe(t, "optimizer.name=muon"), arch, all, windows, losses, norms)
}

func goldenSteps(
	t *testing.T, d device.Device, what string, recipe *recipe.Recipe, arch *configs.Arch, all map[string][]float32, windows [][]int32, losses, norms []float32,
) {
	t.Helper()
	for i, out := range stepsOn(t, d, recipe, arch, all, windows, len(losses)) {
		if d := math.Abs(out.loss - float64(losses[i])); !(d <= goldenTolerance) {
			t.Errorf("%s, step %d: loss %v, want %v", what, i+1, out.loss, losses[i])
		}
		if d := math.Abs(out.gradNorm - float64(norms[i])); !(d <= goldenTolerance*float64(norms[i])) {
			t.Errorf("%s, step %d: gradient norm %v, want %v", what, i+1, out.gradNorm, norms[i])
		}
	}
}

// stepsOn makes the first n steps of a run on d, each on the same windows.
func stepsOn(t *testing.T, d device.Device, recipe *recipe.Recipe, arch *configs.Arch, all map[string][]float32, windows [][]int32, n int) (made []outcome) {
	t.Helper()
	trainer, err := newTrainer(d, recipe, arch, model.FromMap(arch, all))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		out, err := trainer.step(i+1, windows, nil)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, out)
	}
	return made
}

func clone(all map[string][]float32) map[string][]float32 {
	out := make(map[string][]float32, len(all))
	for name, w := range all {
		out[name] = append([]float32(nil), w...)
	}
	return out
}
