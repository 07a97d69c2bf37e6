package train

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"gqa/configs/recipe"
	"gqa/internal/device/devicetest"
	"gqa/internal/golden"
)

// Eight processes give the losses of one for 50 steps, and the same bits whatever they divide.
func TestEight(t *testing.T) {
	sets := []string{"steps=50", "batch=8", "accumulate=1", "save_every=0", "valid_every=25", "optimizer.eps=1e-4"}
	r, one := smallRun(t, sets...)
	mustRun(t, r, one)
	first := ""
	for _, sharding := range []recipe.Sharding{recipe.ShardOptimizer, recipe.ShardGradients, recipe.ShardParameters} {
		r.Sharding = sharding
		dir := filepath.Join(t.TempDir(), string(sharding))
		mustAmong(t, 8, func(team *team, rank int) error {
			_, err := Run(t.Context(), r, Options{Dir: dir, team: team})
			return err
		})
		nearlySame(t, string(sharding), dir, one.Dir)
		if first == "" {
			first = dir
		}
		same(t, string(sharding), dir, first)
	}
}

// Processes with devices of their own divide no more than has to be divided for a step to fit.
func TestDivide(t *testing.T) {
	r, _ := smallRun(t, "model=../checkpoints/sample/gopher-4m", "batch=4", "accumulate=1", "recompute=none")
	choice := func(sharding recipe.Sharding, limit int) (chosen recipe.Sharding) {
		r := r
		r.Sharding = sharding
		mustAmong(t, 4, func(team *team, rank int) error {
			d := devicetest.NewScarce()
			if rank == 1 {
				d.Limit = limit
			}
			team.device = d
			err := team.divide(&r, r.Model)
			if rank == 0 {
				chosen = team.divides(&r)
			}
			return err
		})
		return chosen
	}
	seen := map[recipe.Sharding]bool{}
	for mebibytes := 576 + 10; mebibytes < 576+60; mebibytes += 5 {
		seen[choice("", mebibytes<<20)] = true
	}
	if !seen[recipe.ShardOptimizer] || !seen[recipe.ShardParameters] {
		t.Errorf("chosen %v", seen)
	}
	if got := choice(recipe.ShardGradients, 1); got != recipe.ShardGradients {
		t.Errorf("chosen %s, the recipe says gradients", got)
	}
	r.Model = filepath.Join(t.TempDir(), "none")
	if got := choice("", 1); got != recipe.ShardOptimizer {
		t.Errorf("chosen %s without a model", got)
	}
}

// What is estimated for divided weights is what a device shows.
func TestDividedFit(t *testing.T) {
	r, _ := smallRun(t, "data="+writeIDs(t, golden.Windows(1, 40, 64, 128)), "valid=", "seq_len=64", "batch=8", "accumulate=1", "steps=2",
		"save_every=0", "recompute=layer", "sharding=parameters")
	dir := t.TempDir() + "/run"
	mustAmong(t, 2, func(team *team, rank int) error {
		d := devicetest.NewScarce()
		team.device = d
		run, err := team.begun(t, r, Options{Dir: dir})
		if err != nil {
			return err
		}
		loaded := d.InUse
		m, err := run.estimate(run.trainer.economy)
		if err != nil {
			return err
		}
		m.Work -= 576 << 20 // a GPU's libraries
		if off := m.Held()/float64(loaded) - 1; math.Abs(off) > 0.03 {
			t.Errorf("rank %d: %.0f bytes for weights and the optimizer, measured %d", rank, m.Held(), loaded)
		}
		if err := run.loop(context.Background(), Options{}); err != nil {
			return err
		}
		if off := m.All()/float64(d.Most) - 1; off < -0.15 || off > 0.4 {
			t.Errorf("rank %d: %.0f bytes, measured %d", rank, m.All(), d.Most)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(dir, modelDir, "config.json")); err != nil {
		t.Error(err)
	}
}
