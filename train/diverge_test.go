package train

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/engine"
	"gqa/internal/golden"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// stopOf returns the StopError that err wraps.
func stopOf(t *testing.T, err error) (stop StopError) {
	t.Helper()
	if !errors.As(err, &stop) {
		t.Fatalf("error %v, want a StopError", err)
	}
	return stop
}

func TestDiverged(t *testing.T) {
	recipe, o := smallRun(t, "optimizer.lr=3e38", "optimizer.weight_decay=0", "schedule.warmup=0", "save_every=1", "valid=")
	_, err := Run(t.Context(), recipe, o)
	if !errors.Is(err, ErrDiverged) || stopOf(t, err).LR != 3e-4 || stopOf(t, err).Saved != 0 {
		t.Fatalf("error %v, want ErrDiverged and how to resume", err)
	}
	steps, err := savedSteps(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 0 {
		t.Fatalf("checkpoints of %v were saved of a model that does not work", steps)
	}
	s, err := Resume(t.Context(), o, []string{"optimizer.lr=1e-3"}) // begins again
	if err != nil || s.State != Finished {
		t.Errorf("with a lower rate: %+v, %v", s, err)
	}
}

// A run that diverges later keeps its earlier checkpoints and continues from there.
func TestDivergedLater(t *testing.T) {
	recipe, o := smallRun(t, "steps=4", "schedule.kind=constant", "valid=")
	mustRun(t, recipe, o)
	_, err := Resume(t.Context(), o, []string{"steps=8", "optimizer.lr=3e38", "optimizer.weight_decay=0"})
	if !errors.Is(err, ErrDiverged) || stopOf(t, err).Saved != 4 {
		t.Fatalf("error %v, want ErrDiverged and where it goes on from", err)
	}
	if s, err := Resume(t.Context(), o, []string{"optimizer.lr=1e-3"}); err != nil || s.Saved != 8 {
		t.Errorf("with a lower rate: %+v, %v", s, err)
	}
}

// A finite loss says nothing about its gradient: a gradient that is not finite stops the run before it reaches the
// weights, and the run continues from what was saved before.
func TestDivergedGradient(t *testing.T) {
	recipe, o := smallRun(t, "save_every=2", "skip.limit=0")
	mustRun(t, recipe, o)
	for name, poison := range map[string]float32{"NaN": float32(math.NaN()), "+Inf": float32(math.Inf(1))} {
		other := Options{Dir: filepath.Join(t.TempDir(), "run")}
		r := begun(t, recipe, other)
		before := map[string][]float32{}
		other.Observe = func(p Progress) {
			if p.Step == 3 {
				before = results(t, r)
				r.trainer.Trainer = &poisoned{r.trainer.Trainer, poison}
			}
		}
		err := r.loop(t.Context(), other)
		const want = "in step 4: the gradient norm is " // NaN or +Inf
		if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), want) || stopOf(t, err).Saved != 2 {
			t.Fatalf("%s: error %v, want ErrDiverged %q", name, err, want)
		}
		for weight, w := range results(t, r) {
			if !slices.Equal(w, before[weight]) {
				t.Errorf("%s: %s changed", name, weight)
			}
		}
		if steps, err := savedSteps(other.Dir); err != nil || !slices.Equal(steps, []int{2}) {
			t.Errorf("%s: checkpoints of %v, %v; want 2", name, steps, err)
		}
		if n := len(figures(t, other.Dir)); n != 3 {
			t.Errorf("%s: %d steps are logged, want 3", name, n)
		}
		other.Observe = nil
		if _, err := Resume(t.Context(), other, nil); err != nil {
			t.Fatal(err)
		}
		same(t, name, other.Dir, o.Dir)
	}
}

// poisoned is a trainer whose gradients are not finite, although its losses are.
type poisoned struct {
	engine.Trainer
	share float32
}

func (p *poisoned) Accumulate(b ops.Batch, targets []int32, lesson *engine.Lesson, _ float32) (engine.Loss, error) {
	_, err := p.Trainer.Accumulate(b, targets, lesson, p.share)
	return finite{}, err
}

type finite struct{}

func (finite) Read() (value, crossEntropy, divergence float64) { return 1, 1, 0 }

// results are copies of the weights of a run's result.
func results(t *testing.T, r *run) map[string][]float32 {
	t.Helper()
	params, err := r.origin.arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]float32{}
	for _, p := range params {
		all[p.Name] = slices.Clone(r.trainer.Result(p.Name))
	}
	return all
}

// begun is a run just before its first step.
func begun(t *testing.T, recipe recipe.Recipe, o Options) *run {
	t.Helper()
	r, err := prepare(t.Context(), solo(nil), &recipe)
	if err == nil {
		err = createFolder(o, &recipe, r.identity)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.dir = o.Dir
	return r
}

// If the model is broken before it is trained, the learning rate is not blamed.
func TestDivergedModel(t *testing.T) {
	arch, all := golden.TinyModel(t, golden.Tiny["llama"])
	all["final_norm.weight"][0] = math.MaxFloat32 // is finite, but no logit that it is in
	dir := t.TempDir()
	if err := weights.Write(dir, arch, checkpoints.F32, weights.ByName(all), checkpoints.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "config.json", golden.Tiny["llama"])
	recipe, o := smallRun(t, "model="+dir, "valid=", "data="+writeIDs(t, golden.Windows(1, 14, 12, 40)))
	_, err := Run(t.Context(), recipe, o)
	want := "before any weight has changed; the numbers that the model itself gives are not finite"
	if stop := stopOf(t, err); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), want) || stop.Unfit != dir || stop.LR != 0 {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestLowerRate(t *testing.T) {
	for lr, want := range map[float64]string{3e-4: "3e-05", 1e-3: "0.0001", 0.1: "0.01", 0.2: "0.0003", 3e38: "0.0003"} {
		if got := fmt.Sprintf("%.3g", lowerRate(lr)); got != want {
			t.Errorf("after %v: %s, want %s", lr, got, want)
		}
	}
}
