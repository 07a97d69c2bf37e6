package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/comm"
	"gqa/internal/comm/commtest"
	"gqa/internal/launch"
)

// among calls f as each of n processes, in goroutines of this one, and returns their errors.
func among(n int, f func(t *team, rank int) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for rank, group := range commtest.Local(n) {
		all.Go(func() {
			errs[rank] = f(&team{Comm: group, world: launch.World{Rank: rank, Size: n, Launcher: "a test"}}, rank)
		})
	}
	all.Wait()
	return errs
}

func mustAmong(t *testing.T, n int, f func(t *team, rank int) error) {
	t.Helper()
	if err := errors.Join(among(n, f)...); err != nil {
		t.Fatal(err)
	}
}

// Several processes give the figures of one, within rounding, and a run goes on with any number of them: with the same number to the
// bit. Only one of them writes and is observed.
func TestTeam(t *testing.T) {
	for name, sets := range map[string][]string{
		"one batch":            {"batch=4", "accumulate=1"},
		"accumulating":         {"batch=2", "accumulate=3", "sharding=gradients"},
		"muon, mixed":          {"batch=3", "accumulate=2", "optimizer.name=muon", "distill.teacher=testdata/llama-rope3", "distill.loss=mixed"},
		"attention":            {"batch=3", "accumulate=1", "train=attention", "sharding=gradients"},
		"lora":                 {"batch=4", "accumulate=1", "train=lora", "lora.projections=q,v,down", "lora.rank=2", "optimizer.lr=1e-2"},
		"adafactor":            {"batch=4", "accumulate=1", "optimizer.name=adafactor", "optimizer.lr=1e-3"},
		"bf16 moments":         {"batch=4", "accumulate=1", "optimizer.moments=bf16"},
		"lora, muon":           {"batch=2", "accumulate=2", "train=lora", "optimizer.name=muon", "optimizer.average=0.9", "sharding=gradients"},
		"averaging":            {"batch=4", "accumulate=1", "optimizer.average=0.9", "valid_every=2"},
		"parameters":           {"batch=2", "accumulate=3", "sharding=parameters", "recompute=layer", "valid_every=2"},
		"averaging parameters": {"batch=5", "accumulate=1", "sharding=parameters", "optimizer.average=0.9", "valid_every=2"},
		"muon parameters":      {"batch=4", "accumulate=1", "sharding=parameters", "optimizer.name=muon", "distill.teacher=testdata/llama-rope3", "distill.loss=mixed"},
		"lora parameters":      {"batch=3", "accumulate=1", "train=lora", "lora.projections=q,v,down", "lora.rank=2", "optimizer.lr=1e-2", "sharding=parameters"},
		"adafactor parameters": {"batch=4", "accumulate=1", "optimizer.name=adafactor", "optimizer.lr=1e-3", "sharding=parameters"},
	} {
		t.Run(name, func(t *testing.T) {
			sets := append([]string{"steps=6", "save_every=3", "keep=0", "optimizer.eps=1e-4"}, sets...)
			recipe, one := smallRun(t, sets...)
			mustRun(t, recipe, one)
			whole := filepath.Join(t.TempDir(), "run")
			observed := 0
			mustAmong(t, 2, func(team *team, rank int) error {
				_, err := Run(t.Context(), recipe, Options{Dir: whole, team: team, Observe: func(Progress) { observed++ }})
				return err
			})
			if observed != 6 {
				t.Errorf("%d steps were observed, want 6", observed)
			}
			nearlySame(t, "two processes", whole, one.Dir)
			nearModel(t, "two processes", whole, one.Dir)
			for n := 1; n <= 3; n++ {
				resumedAmong(t, n, whole, one.Dir, "step-6")
			}
		})
	}
}

// resumedAmong goes on with n processes from the middle of a run of two, without its last checkpoint.
func resumedAmong(t *testing.T, n int, whole, one, last string) {
	t.Helper()
	dir := copied(t, whole).Dir
	for _, name := range []string{filepath.Join(checkpointsDir, last), modelDir} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if n == 1 {
		if _, err := Resume(t.Context(), Options{Dir: dir}, nil); err != nil {
			t.Fatal(err)
		}
	} else {
		mustAmong(t, n, func(team *team, rank int) error {
			_, err := Resume(t.Context(), Options{Dir: dir, team: team}, nil)
			return err
		})
	}
	if n == 2 {
		same(t, "resumed with as many", dir, whole)
	}
	nearlySame(t, fmt.Sprintf("resumed with %d", n), dir, one)
	nearModel(t, fmt.Sprintf("resumed with %d", n), dir, one)
}

// nearModel compares the weights of a run's result with another's.
func nearModel(t *testing.T, what, dir, want string) {
	t.Helper()
	got := resultWeights(t, dir)
	for name, w := range resultWeights(t, want) {
		if len(got[name]) != len(w) {
			t.Fatalf("%s: %s has %d numbers, want %d", what, name, len(got[name]), len(w))
		}
		for i, g := range got[name] {
			if math.Abs(float64(g-w[i])) > 2e-5 {
				t.Fatalf("%s: number %d of %s is %v, want %v", what, i, name, g, w[i])
			}
		}
	}
}

func resultWeights(t *testing.T, dir string) map[string][]float32 {
	t.Helper()
	ckpt, err := checkpoints.Open(filepath.Join(dir, modelDir))
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	all := map[string][]float32{}
	for _, name := range ckpt.Names() {
		tensor, _ := ckpt.Tensor(name)
		if all[name], err = tensor.Float32(nil); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// If one process is asked to stop, all do after the same step, which is saved.
func TestTeamStops(t *testing.T) {
	recipe, o := smallRun(t, "steps=6")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	errs := among(3, func(team *team, rank int) error {
		mine, o := t.Context(), Options{Dir: o.Dir, team: team}
		if rank == 0 {
			o.Observe = func(p Progress) {
				if p.Step == 2 {
					cancel() // another rank's
				}
			}
		}
		if rank == 2 {
			mine = ctx
		}
		_, err := Run(mine, recipe, o)
		return err
	})
	var elsewhere comm.Elsewhere
	if s, err := ReadStatus(o.Dir); err != nil || s.Saved < 2 || s.Saved > 3 || !errors.Is(errs[0], ErrInterrupted) || !errors.Is(errs[2], ErrInterrupted) && !errors.As(errs[2], &elsewhere) {
		t.Errorf("%v; saved %+v, %v", errs, s, err)
	}
}

// What fails on one process fails on all, and only that one says why.
func TestTeamAgrees(t *testing.T) {
	broken := errors.New("broken")
	errs := among(3, func(team *team, rank int) error {
		if rank == 1 {
			return team.agree(broken)
		}
		return team.agree(nil)
	})
	if errs[1].Error() != "rank 1: broken" || !errors.Is(errs[1], broken) || errs[0].Error() != "rank 1 failed" || errs[2].Error() != "rank 1 failed" {
		t.Errorf("%v", errs)
	}
	recipe, o := smallRun(t, "batch=2", "accumulate=1")
	errs = among(3, func(team *team, rank int) error {
		_, err := Run(t.Context(), recipe, Options{Dir: o.Dir, team: team})
		return err
	})
	want := "batch * accumulate is 2 windows for each step, want at least one for each of 3 processes"
	if errs[0] == nil || errs[0].Error() != want || errs[1].Error() != "rank 0 failed" || IsRun(o.Dir) {
		t.Errorf("%v", errs)
	}
}

// A loss that is not finite on one process ends the run on all, with the weights of the step before.
func TestTeamDiverges(t *testing.T) {
	recipe, o := smallRun(t, "steps=6", "optimizer.lr=1e30", "optimizer.clip=0", "schedule.warmup=0")
	for rank, err := range among(2, func(team *team, rank int) error {
		_, err := Run(t.Context(), recipe, Options{Dir: o.Dir, team: team})
		return err
	}) {
		if rank == 0 && !errors.Is(err, ErrDiverged) || rank == 1 && !errors.As(err, new(comm.Elsewhere)) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

func TestPortions(t *testing.T) {
	for windows, c := range map[int]struct{ batch, size, at int }{8: {8, 2, 8}, 6: {3, 3, 3}, 7: {3, 2, 2}, 4: {1, 3, 1}, 5: {5, 4, 1}} {
		next, least, most := 0, math.MaxInt, 0
		for rank := range c.size {
			tr := &trainer{
				recipe: &recipe.Recipe{Batch: c.batch, Accumulate: 1}, economy: economy{Windows: c.at},
				team: &team{Comm: commtest.Local(c.size)[rank]},
			}
			own := 0
			for _, p := range tr.parts(windows, rank) {
				if p.lo != next || p.hi <= p.lo || p.hi-p.lo > c.at || p.lo < p.first || p.hi > p.end || p.first%c.batch != 0 || p.end != min(p.first+c.batch, windows) {
					t.Errorf("%d windows: rank %d has %+v", windows, rank, p)
				}
				own, next = own+p.hi-p.lo, p.hi
			}
			least, most = min(least, own), max(most, own)
		}
		if next != windows || most-least > 1 {
			t.Errorf("%d windows: %d are read, %d to %d by each", windows, next, least, most)
		}
	}
}
