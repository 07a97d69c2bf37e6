//go:build cuda && linux

package train

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"gqa/internal/cuda"
	"gqa/internal/device"
	devcuda "gqa/internal/device/cuda"
	"gqa/internal/devices"
	"gqa/internal/golden"
)

// gpu returns the first GPU. Without one the test is skipped.
func gpu(t *testing.T) device.Device {
	t.Helper()
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	d, err := devices.Open(devices.CUDA, devices.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestGoldenFamiliesOnGPU runs TestGoldenFamilies, and other tests with reference steps, on a GPU.
func TestGoldenFamiliesOnGPU(t *testing.T) {
	d := gpu(t)
	for _, c := range golden.Cases(t) {
		if !c.Has("train_loss") {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			arch, all := grouped(t, c.Dir, 2)
			recipe := goldenRecipe(t, fmt.Sprintf("seq_len=%d", len(c.IDs[0])))
			goldenSteps(t, d, c.Name, recipe, arch, all, c.IDs, c.Floats(t, "train_loss"), c.Floats(t, "grad_norm"))
			if err := d.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("muon", func(t *testing.T) { goldenMuon(t, d) })
}

// A run on a GPU gives the same bits each time, even if interrupted, with a teacher and an average.
func TestResumeOnGPU(t *testing.T) {
	gpu(t)
	recipe, whole := smallRun(t, "device=cuda", "distill.teacher=testdata/llama-g2", "distill.loss=mixed", "optimizer.average=0.9")
	mustRun(t, recipe, whole)
	o := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if _, err := Run(interruptedAfter(t, &o, 3), recipe, o); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	o.Observe = nil
	if _, err := Resume(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	same(t, "resumed on a GPU", o.Dir, whole.Dir)
}

// A run moves from the processor to a GPU and back, and its losses are those of a run that stays on one device.
func TestMoveToGPU(t *testing.T) {
	gpu(t)
	recipe, whole := smallRun(t)
	mustRun(t, recipe, whole)
	o := Options{Dir: filepath.Join(t.TempDir(), "run")}
	if _, err := Run(interruptedAfter(t, &o, 3), recipe, o); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if _, err := Resume(interruptedAfter(t, &o, 5), o, []string{"device=cuda:0"}); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	o.Observe = nil
	if _, err := Resume(t.Context(), o, []string{"device=cpu"}); err != nil {
		t.Fatal(err)
	}
	moved, stayed := figures(t, o.Dir), figures(t, whole.Dir)
	for i, want := range stayed {
		if got := moved[i]; math.Abs(float64(got.Loss-want.Loss)) > goldenTolerance || math.Abs(float64(got.GradNorm-want.GradNorm)) > goldenTolerance*float64(want.GradNorm) {
			t.Errorf("step %d: loss %v, gradient norm %v, want %v, %v", got.Step, got.Loss, got.GradNorm, want.Loss, want.GradNorm)
		}
	}
}

// With a teacher, its cache, Muon or an average, a run in bfloat16 has nearly the losses of one in float32 on the processor.
func TestRunsInBF16(t *testing.T) {
	gpu(t)
	const tolerance = 0.02
	for name, sets := range map[string][]string{
		"teacher": {"distill.teacher=testdata/llama-rope3", "distill.loss=mixed"},
		"cache":   {"distill.teacher=testdata/llama-rope3", "distill.loss=kl", "distill.cache="},
		"Muon":    {"optimizer.name=muon", "optimizer.average=0.9"},
		"factors": {"optimizer.name=adafactor", "optimizer.lr=1e-2", "recompute=layer"},
		"part":    {"train=attention", "recompute=layer"},
		"LoRA":    {"train=lora", "lora.projections=q,v,down", "optimizer.lr=1e-2"},
		"layer":   {"recompute=layer", "accumulate=2"},
	} {
		t.Run(name, func(t *testing.T) {
			made := func(sets ...string) Options {
				for i, set := range sets {
					if set == "distill.cache=" {
						sets[i] += t.TempDir()
					}
				}
				recipe, o := smallRun(t, sets...)
				mustRun(t, recipe, o)
				return o
			}
			exact := figures(t, made(slices.Clone(sets)...).Dir)
			short := figures(t, made(append(slices.Clone(sets), "device=cuda", "precision=bf16")...).Dir)
			for i, want := range exact {
				got := short[i]
				if !(math.Abs(float64(got.Loss-want.Loss)) <= tolerance) || want.KL != nil && !(math.Abs(*got.KL-*want.KL) <= tolerance) ||
					want.ValidLoss != nil && !(math.Abs(*got.ValidLoss-*want.ValidLoss) <= tolerance) {
					t.Errorf("step %d: %+v, want nearly %+v", want.Step, got, want)
				}
			}
		})
	}
}

// A run on a GPU that is killed again and again has the bits of one that is not.
func TestKilledOnGPU(t *testing.T) {
	gpu(t)
	for _, precision := range []string{"f32", "bf16"} {
		t.Run(precision, func(t *testing.T) { killed(t, 10, "device=cuda", "precision="+precision) })
	}
}

// Neither the pool nor the GPU nor Go loses memory in 10,000 steps.
func TestSteadyMemoryOnGPU(t *testing.T) {
	gpu(t)
	d, err := devcuda.Open(0, devcuda.Options{Activations: device.BF16})
	if err != nil {
		t.Fatal(err)
	}
	g, err := cuda.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	steady(t, d, 10_000, func() []uint64 { return []uint64{d.Held(), g.FreeMemory()} }, "precision=bf16")
}

// Six steps in bfloat16 have the losses of float32, nearly, and the same bits each time.
func TestGoldenFamiliesInBF16(t *testing.T) {
	const tolerance = 0.02
	gpu(t)
	d, err := devices.Open(devices.CUDA, devices.Options{Activations: device.BF16})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range golden.Cases(t) {
		if !c.Has("train_loss") {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			losses := c.Floats(t, "train_loss")
			var twice [2][]outcome
			for i := range twice {
				arch, all := grouped(t, c.Dir, 2)
				recipe := goldenRecipe(t, fmt.Sprintf("seq_len=%d", len(c.IDs[0])), "precision=bf16")
				twice[i] = stepsOn(t, d, recipe, arch, all, c.IDs, len(losses))
			}
			if !slices.Equal(twice[0], twice[1]) {
				t.Errorf("%+v, then %+v", twice[0], twice[1])
			}
			worst := 0.0
			for i, want := range losses {
				worst = max(worst, math.Abs(twice[0][i].loss-float64(want)))
			}
			if t.Logf("off by at most %.4f", worst); !(worst <= tolerance) || worst == 0 {
				t.Errorf("losses %+v, want %v within %v", twice[0], losses, tolerance)
			}
			if err := d.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
