package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gqa/checkpoints"
	"gqa/configs"
)

// Resume goes on with the run in o.Dir from its newest checkpoint, or from the beginning where there is none. sets change
// keys of its recipe first ("optimizer.lr=1e-4"); those that say what data a step reads are fixed, and so is
// the optimizer, whose averages a checkpoint holds. A finished run is left
// as it is, unless a greater number of steps is set.
func Resume(ctx context.Context, o Options, sets []string) (*Status, error) {
	recipe, changed, err := changedRecipe(o.Dir, sets)
	if err != nil {
		return nil, err
	}
	release, err := lock(o.Dir)
	if err != nil {
		return nil, err
	}
	defer release()
	s, err := readStatus(o.Dir, false)
	switch {
	case err != nil:
		return nil, err
	case recipe.Steps < s.Saved:
		return nil, fmt.Errorf("steps is %d, but %s has a checkpoint of step %d", recipe.Steps, o.Dir, s.Saved)
	case s.State == Finished && recipe.Steps == s.Saved:
		return s, nil
	}
	r, err := reopen(ctx, o.Dir, recipe)
	if err != nil {
		return nil, err
	}
	if changed {
		if err := writeRecipe(o.Dir, recipe); err != nil {
			return nil, err
		}
	}
	return finish(r.loop(ctx, o), o.Dir)
}

// changedRecipe is the recipe of a run with keys set anew.
func changedRecipe(dir string, sets []string) (recipe *configs.Recipe, changed bool, err error) {
	old, err := readRecipe(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("%s: is not a run: it has no %s", dir, recipeFile)
	}
	if err != nil {
		return nil, false, err
	}
	r := old
	for _, set := range sets {
		if err := r.Set(set); err != nil {
			return nil, false, err
		}
	}
	if err := resolve(&r); err != nil {
		return nil, false, err
	}
	for _, key := range []struct {
		name     string
		old, now any
	}{
		{"name", old.Name, r.Name},
		{"batch", old.Batch, r.Batch},
		{"accumulate", old.Accumulate, r.Accumulate},
		{"seq_len", old.SeqLen, r.SeqLen},
		{"seed", old.Seed, r.Seed},
		{"optimizer.name", old.Optimizer.Name, r.Optimizer.Name},
		{"optimizer.average", old.Optimizer.Average, r.Optimizer.Average},
	} {
		if key.old != key.now {
			return nil, false, fmt.Errorf("%s cannot change within a run, from %v to %v; start another with gqa-train run", key.name, key.old, key.now)
		}
	}
	return &r, r != old, nil
}

// reopen is a run as its newest checkpoint has it.
func reopen(ctx context.Context, dir string, recipe *configs.Recipe) (*run, error) {
	if err := sweep(dir); err != nil {
		return nil, err
	}
	steps, err := savedSteps(dir)
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		r, err := prepare(ctx, recipe)
		if err == nil {
			r.dir = dir
		}
		return r, err
	}
	return restore(ctx, dir, recipe, steps)
}

// restore is a run as the last checkpoint of steps has it.
func restore(ctx context.Context, dir string, recipe *configs.Recipe, steps []int) (*run, error) {
	from := checkpointDir(dir, steps[len(steps)-1])
	o, all, err := openOrigin(ctx, from)
	if err != nil {
		return nil, unreadable(dir, steps, err)
	}
	r, err := assemble(ctx, recipe, o, all)
	if err != nil {
		return nil, err
	}
	s, err := loadState(from, r.trainer.optimizer)
	if err == nil && s.Step != steps[len(steps)-1] {
		err = fmt.Errorf("%s: step is %d", filepath.Join(from, stateFile), s.Step)
	}
	if err != nil {
		return nil, unreadable(dir, steps, err)
	}
	if s.Data != r.state.Data {
		return nil, fmt.Errorf("data: %s has changed since the run began (%d tokens then, %d now): put it back, or start another run",
			recipe.Data, s.Data.Tokens, r.state.Data.Tokens)
	}
	r.dir, r.state, r.saved = dir, s, s.Step
	return r, nil
}

// unreadable is the error of a newest checkpoint that is damaged, with the way around it.
func unreadable(dir string, steps []int, cause error) error {
	last, back := steps[len(steps)-1], "begin again"
	if len(steps) > 1 {
		back = fmt.Sprintf("go on from step %d", steps[len(steps)-2])
	}
	return fmt.Errorf("the checkpoint of step %d cannot be read: %w; to %s, remove %s and resume", last, cause, back, checkpointDir(dir, last))
}

func writeRecipe(dir string, recipe *configs.Recipe) error {
	text, err := recipe.YAML()
	if err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(filepath.Join(dir, recipeFile), text, 0o666)
}

// Newest is the run under a folder that was trained last, by its newest figures or checkpoint.
func Newest(runs string) (dir string, err error) {
	entries, err := os.ReadDir(runs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var newest time.Time
	for _, e := range entries {
		run := filepath.Join(runs, e.Name())
		if at := lastTrained(run); at.After(newest) {
			dir, newest = run, at
		}
	}
	if dir == "" {
		return "", fmt.Errorf("there is no run under %s; name the run's folder", runs)
	}
	return dir, nil
}

// lastTrained is when a run last wrote something; zero if it is not a run.
func lastTrained(run string) time.Time {
	var newest time.Time
	if _, err := os.Stat(filepath.Join(run, recipeFile)); err != nil {
		return newest
	}
	for _, name := range []string{recipeFile, metricsFile, checkpointsDir} {
		if info, err := os.Stat(filepath.Join(run, name)); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}
