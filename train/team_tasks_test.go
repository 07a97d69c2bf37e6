package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/configs"
	"gqa/internal/comm"
)

// norms is a task whose figures depend on the weights alone: x_norm is the mean of their squares.
type norms struct {
	loaded int
	before func(call int) // called before each measurement
	calls  int
}

func (n *norms) load([]string, int) (Measure, error) {
	n.loaded++
	return func(ctx context.Context, m TaskModel) (map[string]TaskFigure, error) {
		if n.calls++; n.before != nil {
			n.before(n.calls)
		}
		sum, count := 0.0, 0
		err := m.Weights(func(_ configs.Param, values []float32) error {
			for _, x := range values {
				sum, count = sum+float64(x)*float64(x), count+1
			}
			return nil
		})
		return map[string]TaskFigure{"x_norm": {Value: sum / float64(count)}}, errors.Join(err, ctx.Err())
	}, nil
}

// Several processes measure what one does, end at the same step, and have the same best checkpoint, also when they are resumed.
func TestTeamBest(t *testing.T) {
	for name, c := range map[string]struct {
		ranks int
		sets  []string
	}{
		"ends at the second": {2, []string{"tasks=x", "tasks_every=1", "best=x_norm", "patience=1", "valid_every=2"}},
		"task":               {2, []string{"tasks=x", "tasks_every=1", "best=x_norm", "patience=2", "valid_every=2"}},
		"task, of average":   {3, []string{"tasks=x", "tasks_every=1", "best=x_norm", "optimizer.average=0.9", "sharding=parameters"}},
		"loss":               {3, []string{"valid_every=1", "best=loss", "patience=2", "optimizer.lr=0.03", "schedule.warmup=0", "tasks=x", "tasks_every=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			recipe, one := smallRun(t, append([]string{"steps=8", "keep=1", "save_every=0", "optimizer.eps=1e-4"}, c.sets...)...)
			one.Tasks = (&norms{}).load
			want := mustRun(t, recipe, one)
			if want.Best == 0 || want.Best == want.Step || recipe.Patience > 0 && want.Step == 8 {
				t.Fatalf("one process: %+v", want)
			}
			whole, loaded := filepath.Join(t.TempDir(), "run"), &norms{}
			ends := make([]string, c.ranks)
			mustAmong(t, c.ranks, func(team *team, rank int) error {
				o := Options{Dir: whole, team: team, Tasks: (&norms{}).load}
				if rank == 0 {
					o.Tasks = loaded.load
				}
				recipe, rest := recipe, &run{}
				err := func() error {
					r, err := team.begun(t, recipe, o)
					if err != nil {
						return err
					}
					if err := r.openRest(o); err != nil {
						return err
					}
					rest = r
					return r.loop(t.Context(), o)
				}()
				ends[rank] = fmt.Sprint(rest.state.Step, rest.best.step, rest.recipe.Steps)
				return err
			})
			if slices.Min(ends) != slices.Max(ends) || loaded.loaded != 1 {
				t.Errorf("the ranks end with %v; tasks were loaded %d times", ends, loaded.loaded)
			}
			sameBest(t, "several processes", whole, one.Dir)

			stopped, second := filepath.Join(t.TempDir(), "run"), &norms{} // while rank 0 measures for the second time
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			second.before = func(call int) {
				if call == 2 {
					cancel()
				}
			}
			for rank, err := range among(c.ranks, func(team *team, rank int) error {
				mine := t.Context()
				if rank == 0 {
					mine = ctx
				}
				_, err := Run(mine, recipe, Options{Dir: stopped, team: team, Tasks: second.load})
				return err
			}) {
				if !errors.Is(err, ErrInterrupted) && !errors.As(err, new(comm.Elsewhere)) {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
			mustAmong(t, 2, func(team *team, _ int) error {
				_, err := Resume(t.Context(), Options{Dir: stopped, team: team, Tasks: (&norms{}).load}, nil)
				return err
			})
			sameBest(t, "resumed", stopped, one.Dir)
		})
	}
}

// sameBest compares a run's validations, end and best checkpoint with another's.
func sameBest(t *testing.T, what, dir, want string) {
	t.Helper()
	nearlySame(t, what, dir, want)
	for i, w := range figures(t, want) {
		if g := figures(t, dir)[i]; len(g.Tasks) != len(w.Tasks) || math.Abs(float64(g.Tasks["x_norm"]-w.Tasks["x_norm"])) > 1e-5 {
			t.Errorf("%s, step %d: figures %v, want %v", what, g.Step, g.Tasks, w.Tasks)
		}
	}
	got, err := ReadStatus(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadStatus(want)
	if err != nil || got.Best != s.Best || got.Step != s.Step || got.Steps != s.Steps || got.State != Finished {
		t.Errorf("%s: %+v, want %+v, %v", what, got, s, err)
	}
	best, result := stored(t, checkpointDir(dir, s.Best)), stored(t, filepath.Join(dir, modelDir))
	for name, text := range best {
		if result[name] != text {
			t.Errorf("%s: %s of the result is not the best checkpoint's", what, name)
		}
	}
}

// What rank 0 finds wrong with the tasks, all know of.
func TestTeamTasksFail(t *testing.T) {
	recipe, o := smallRun(t, "tasks=a", "tasks_every=4", "valid=", "best=y")
	for _, c := range []struct {
		load Tasks
		want string
	}{
		{nil, "cannot measure tasks"},
		{(&norms{}).load, `best is "y", want loss or one of the tasks' figures: x_norm`},
	} {
		for rank, err := range among(2, func(team *team, _ int) error {
			_, err := Run(t.Context(), recipe, Options{Dir: o.Dir, Force: true, team: team, Tasks: c.load})
			return err
		}) {
			if rank == 0 && (err == nil || !strings.Contains(err.Error(), c.want)) || rank == 1 && !errors.As(err, new(comm.Elsewhere)) {
				t.Errorf("rank %d: %v, want %s", rank, err, c.want)
			}
		}
	}
}
