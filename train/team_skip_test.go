package train

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/comm"
)

// begun is the package's begun for one of a team's processes.
func (t *team) begun(tt *testing.T, recipe recipe.Recipe, o Options) (*run, error) {
	r, err := prepare(tt.Context(), t, &recipe)
	if err := t.agree(err); err != nil {
		return nil, err
	}
	r.dir = o.Dir
	return r, t.onFirst(func() error { return createFolder(o, &recipe, r.identity) })
}

// Where the numbers of one process are not finite, or a spike, all skip the step. It changes no weight, and is counted.
func TestTeamSkip(t *testing.T) {
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		ranks   int
		trouble troubled
		skipped []int
		why     string
	}{
		"gradient":          {2, troubled{at: []int{5, 11}, factor: nan, loss: 1}, []int{5, 11}, "the gradient norm is NaN"},
		"loss":              {3, troubled{at: []int{5}, factor: nan, loss: math.NaN()}, []int{5}, "the loss is NaN"},
		"spike of the norm": {2, troubled{at: []int{25}, factor: 1000, loss: 1}, []int{25}, "the gradient norm is "},
		"spike of the loss": {3, troubled{at: []int{26}, factor: 1, loss: 50}, []int{26}, "the loss is 5"},
	} {
		t.Run(name, func(t *testing.T) {
			recipe, o := smallRun(t, "batch=3", "accumulate=1", "skip.spike=6", "steps=30", "optimizer.lr=1e-4", "schedule.kind=constant",
				"save_every=0", "valid=", "optimizer.clip=0")
			counts := make([]int, c.ranks)
			mustAmong(t, c.ranks, func(team *team, rank int) error {
				r, err := team.begun(t, recipe, o)
				if err != nil {
					return err
				}
				trouble := &troubled{Trainer: r.trainer.Trainer}
				if rank == c.ranks-1 {
					trouble.at, trouble.factor, trouble.loss = c.trouble.at, c.trouble.factor, c.trouble.loss
				}
				r.trainer.Trainer = trouble
				err = r.loop(t.Context(), o)
				if last := trouble.steps[len(trouble.steps)-1]; last != 30-len(c.skipped) {
					t.Errorf("rank %d: the last step is the optimizer's %d, want %d", rank, last, 30-len(c.skipped))
				}
				counts[rank] = r.trainer.watch.skipped
				return err
			})
			var skipped []int
			for _, m := range figures(t, o.Dir) {
				if m.Skipped == "" {
					continue
				}
				if skipped = append(skipped, m.Step); !strings.HasPrefix(m.Skipped, c.why) {
					t.Errorf("step %d: %s", m.Step, m.Skipped)
				}
			}
			if !slices.Equal(skipped, c.skipped) || slices.Min(counts) != len(c.skipped) || slices.Max(counts) != len(c.skipped) {
				t.Errorf("steps %v are skipped, want %v; the ranks count %v", skipped, c.skipped, counts)
			}
		})
	}
}

// Beyond the limit all stop, with a checkpoint of the step before.
func TestTeamSkipLimit(t *testing.T) {
	recipe, o := smallRun(t, "accumulate=1", "skip.limit=1", "save_every=1", "valid=")
	errs := among(2, func(team *team, rank int) error {
		r, err := team.begun(t, recipe, o)
		if err == nil && rank == 1 {
			r.trainer.Trainer = &troubled{Trainer: r.trainer.Trainer, at: []int{2, 4}, factor: float32(math.NaN())}
		}
		if err == nil {
			err = r.loop(t.Context(), o)
		}
		return team.leave(err)
	})
	if !errors.Is(errs[0], ErrDiverged) || !strings.Contains(errs[0].Error(), "in step 4: the loss is NaN") || stopOf(t, errs[0]).Saved != 3 ||
		!errors.As(errs[1], new(comm.Elsewhere)) {
		t.Errorf("errors %v", errs)
	}
	mustAmong(t, 2, func(team *team, _ int) error {
		_, err := Resume(t.Context(), Options{Dir: o.Dir, team: team}, nil)
		return err
	})
	if s, err := ReadStatus(o.Dir); err != nil || s.Skipped != 1 || s.State != Finished {
		t.Errorf("status %+v, %v", s, err)
	}
}

// Several processes skip the steps that one does, also when the run is interrupted and resumed with another number of them.
func TestTeamSkipResume(t *testing.T) {
	recipe, one := smallRun(t, "batch=3", "accumulate=1", "steps=32", "optimizer.lr=1e-6", "skip.spike=1.5", "skip.limit=100", "valid=",
		"save_every=26", "keep=0")
	if s := mustRun(t, recipe, one); s.Skipped == 0 {
		t.Fatalf("no step is skipped: %+v", s)
	}
	whole := filepath.Join(t.TempDir(), "run")
	mustAmong(t, 2, func(team *team, _ int) error {
		_, err := Run(t.Context(), recipe, Options{Dir: whole, team: team})
		return err
	})
	nearlySame(t, "two processes", whole, one.Dir)
	for n := 1; n <= 3; n++ {
		resumedAmong(t, n, whole, one.Dir, "step-32")
	}
}
