package train

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/configs"
)

// scores is a task whose figure after each step is given, whatever the model does.
type scores struct {
	t      *testing.T
	values map[int]float64 // by the number of the measurement
	calls  int
	seen   []string
}

func (s *scores) load(names []string, limit int) (Measure, error) {
	if s.seen = names; limit != 7 {
		s.t.Errorf("at most %d items, want 7", limit)
	}
	return func(_ context.Context, m TaskModel) (map[string]TaskFigure, error) {
		s.calls++
		if m.Device != "cpu" || m.Arch == nil {
			s.t.Errorf("measured on %q", m.Device)
		}
		if _, err := os.Stat(filepath.Join(m.Dir, "config.json")); err != nil {
			s.t.Error(err)
		}
		numbers := 0
		if err := m.Weights(func(p configs.Param, values []float32) error {
			if numbers += len(values); len(values) != p.Size() {
				s.t.Errorf("%s has %d numbers", p.Name, len(values))
			}
			clear(values) // they are copies
			return nil
		}); err != nil || numbers == 0 {
			s.t.Errorf("%d numbers, %v", numbers, err)
		}
		return map[string]TaskFigure{"x_acc": {Value: s.values[s.calls]}, "x_ppl": {Value: -s.values[s.calls], LowerBetter: true}}, nil
	}, nil
}

// The best checkpoint is kept and is the result, the run ends early, and all that is the same if it was interrupted.
func TestBest(t *testing.T) {
	values := map[int]float64{1: 0.1, 2: 0.4, 3: 0.3, 4: 0.4, 5: 0.2, 6: 0.9}
	for _, figure := range []string{"x_acc", "x_ppl"} {
		recipe, whole := smallRun(t, "tasks=a,b", "tasks_every=1", "tasks_limit=7", "best="+figure, "patience=3", "keep=1", "save_every=3", "valid=")
		s := &scores{t: t, values: values}
		whole.Tasks = s.load
		status := mustRun(t, recipe, whole)
		if status.State != Finished || status.Step != 5 || status.Steps != 5 || status.Best != 2 || math.Abs(math.Abs(float64(status.Tasks[figure]))-0.2) > 1e-9 {
			t.Errorf("%s: %+v", figure, status)
		}
		if steps, err := savedSteps(whole.Dir); err != nil || !slices.Equal(steps, []int{2, 5}) {
			t.Errorf("%s: checkpoints of %v, %v", figure, steps, err)
		}
		best, result := stored(t, checkpointDir(whole.Dir, 2)), stored(t, filepath.Join(whole.Dir, modelDir))
		for name, text := range best {
			if result[name] != text {
				t.Errorf("%s: %s of the result is not the best checkpoint's", figure, name)
			}
		}
		if !slices.Equal(s.seen, []string{"a", "b"}) {
			t.Errorf("loaded %v", s.seen)
		}
		o := Options{Dir: filepath.Join(t.TempDir(), "run"), Tasks: (&scores{t: t, values: values}).load}
		if _, err := Run(interruptedAfter(t, &o, 3), recipe, o); !errors.Is(err, ErrInterrupted) {
			t.Fatal(err)
		}
		o.Observe, o.Tasks = nil, (&scores{t: t, values: map[int]float64{1: 0.4, 2: 0.2}}).load
		if _, err := Resume(t.Context(), o, nil); err != nil {
			t.Fatal(err)
		}
		same(t, figure, o.Dir, whole.Dir)
		if edited, err := func() ([]string, error) { began, _ := readIdentity(o.Dir); return began.checkRecipe(o.Dir) }(); err != nil || edited != nil {
			t.Errorf("the recipe seems to be edited: %v, %v", edited, err)
		}
	}
}

// By the validation loss, the result is that of the step with the lowest.
func TestBestLoss(t *testing.T) {
	recipe, o := smallRun(t, "best=loss", "valid_every=1", "optimizer.lr=0.1", "schedule.warmup=0", "keep=1")
	status := mustRun(t, recipe, o)
	all := figures(t, o.Dir)
	lowest := slices.MinFunc(all, func(a, b Metrics) int {
		if *a.ValidLoss < *b.ValidLoss {
			return -1
		}
		return 1
	})
	if status.Best != lowest.Step || !lowest.Best {
		t.Errorf("the best is step %d, want %d", status.Best, lowest.Step)
	}
}

func TestTasksFail(t *testing.T) {
	recipe, o := smallRun(t, "tasks=a", "tasks_every=4", "valid=")
	if _, err := Run(t.Context(), recipe, o); err == nil || !strings.Contains(err.Error(), "cannot measure tasks") {
		t.Errorf("error %v", err)
	}
	o.Tasks = func([]string, int) (Measure, error) { return nil, errors.New("no such file") }
	if _, err := Run(t.Context(), recipe, o); err == nil || err.Error() != "tasks: no such file" {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(o.Dir); err == nil {
		t.Error("a folder was written")
	}
	o.Tasks = func([]string, int) (Measure, error) {
		return func(context.Context, TaskModel) (map[string]TaskFigure, error) { return nil, errors.New("no memory") }, nil
	}
	said := strings.Join(warnings(t, func() { mustRun(t, recipe, o) }), "\n")
	if !strings.Contains(said, "step 4: the tasks are not measured: no memory") {
		t.Errorf("said %q", said)
	}
	recipe.Best = "x_acc"
	o.Dir += "2"
	if _, err := Run(t.Context(), recipe, o); err == nil || !strings.Contains(err.Error(), "step 4: tasks: no memory") {
		t.Errorf("error %v", err)
	}
	recipe.Best, o.Tasks = "y_acc", (&scores{t: t, values: map[int]float64{1: 1}}).load
	o.Dir, recipe.TasksLimit = o.Dir+"3", 7
	if _, err := Run(t.Context(), recipe, o); err == nil || !strings.Contains(err.Error(), `best is "y_acc", want loss or one of the tasks' figures: x_acc, x_ppl`) {
		t.Errorf("error %v", err)
	}
}
