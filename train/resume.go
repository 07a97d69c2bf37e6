package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gqa/checkpoints"
	"gqa/configs/recipe"
)

// Resume goes on with the run in o.Dir from its newest checkpoint, or from the beginning where there is none. sets change
// keys of its recipe first ("optimizer.lr=1e-4"); those that say what data a step reads are fixed, and so is
// the optimizer, whose averages a checkpoint holds. A finished run is left
// as it is, unless a greater number of steps is set.
func Resume(ctx context.Context, o Options, sets []string) (*Status, error) {
	began := readIdentity(o.Dir)
	if err := began.checkRecipe(o.Dir); err != nil {
		return nil, err
	}
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
	r, err := reopen(ctx, o.Dir, recipe, began)
	if err != nil {
		return nil, err
	}
	if err := writeIdentity(o.Dir, r.identity); err != nil {
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
func changedRecipe(dir string, sets []string) (recipe *recipe.Recipe, changed bool, err error) {
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
	for _, change := range old.Diff(r) {
		if slices.Contains(fixedKeys, change.Key) {
			return nil, false, fmt.Errorf("%s cannot change within a run, from %v to %v; start another with gqa-train run", change.Key, change.Old, change.New)
		}
	}
	return &r, r != old, nil
}

// reopen is a run as its newest good checkpoint has it, or as it begins where it has saved nothing.
func reopen(ctx context.Context, dir string, recipe *recipe.Recipe, began identity) (*run, error) {
	if err := sweep(dir); err != nil {
		return nil, err
	}
	steps, err := savedSteps(dir)
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		r, err := prepare(ctx, recipe)
		if err != nil {
			return nil, err
		}
		r.dir = dir
		return r, r.continues(began)
	}
	var bad []badCheckpoint
	for _, step := range slices.Backward(steps) {
		r, err := restore(ctx, dir, step, recipe, began)
		var damage *damageError
		switch {
		case errors.As(err, &damage):
			bad = append(bad, badCheckpoint{step, damage})
			continue
		case err != nil:
			return nil, err
		}
		return r, fallBack(dir, bad, step)
	}
	return nil, noneGood(dir, bad)
}

// continues checks that a run that was opened anew learns from what it began with.
func (r *run) continues(began identity) error {
	if err := began.check(r.identity, r.recipe); err != nil {
		return err
	}
	var unknown []string
	if r.state.Step > 0 && r.state.Files == nil {
		unknown = append(unknown, fmt.Sprintf("whether the checkpoint of step %d is as it was saved", r.state.Step))
	}
	if began.Recipe == nil {
		unknown = append(unknown, "whether model, teacher and data are those that the run began with")
	}
	if unknown != nil {
		slog.Warn(fmt.Sprintf("%s: an earlier version of gqa-train wrote it, without checksums: it cannot be verified %s", r.dir, strings.Join(unknown, ", nor ")))
	}
	r.identity = began.adopt(r.identity)
	return nil
}

// damageError is what is wrong with a checkpoint.
type damageError struct{ error }

func (e *damageError) Unwrap() error { return e.error }

// badCheckpoint is one that a run cannot go on from.
type badCheckpoint struct {
	step  int
	cause error
}

// restore is a run as the checkpoint of a step has it. If that is damaged the error is a damageError.
func restore(ctx context.Context, dir string, step int, recipe *recipe.Recipe, began identity) (*run, error) {
	from := checkpointDir(dir, step)
	s, err := readState(dir, step)
	if err == nil && s.Identity != nil && began.differs(*s.Identity) != nil {
		err = errors.New("it is another run's checkpoint")
	}
	if err == nil {
		err = s.verify(ctx, dir)
	}
	var o *origin
	var t *trainer
	if err == nil {
		o, t, err = openOrigin(ctx, from, recipe)
	}
	if err == nil {
		err = s.wrote(o)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &damageError{err}
	}
	if s.Identity != nil {
		began = began.adopt(*s.Identity)
	}
	if err := began.checkRecipe(dir); err != nil {
		return nil, err
	}
	r, err := assemble(ctx, recipe, o, t)
	if err != nil {
		return nil, err
	}
	if err := r.trainer.readState(filepath.Join(from, momentsFile)); err != nil {
		return nil, &damageError{err}
	}
	if !r.trainer.Finite() {
		return nil, &damageError{errors.New("it holds numbers that are not finite")}
	}
	if s.Files != nil {
		if r.metrics, err = os.ReadFile(filepath.Join(from, metricsFile)); err != nil {
			return nil, &damageError{err}
		}
	}
	if s.Data != nil && *s.Data != *r.identity.Data {
		return nil, fmt.Errorf("data: %s has changed since the run began (%d tokens then, %d now): put it back, or start another run",
			recipe.Data, s.Data.Tokens, r.identity.Data.Tokens)
	}
	r.dir, r.state, r.saved = dir, s, s.Step
	return r, r.continues(began)
}

// fallBack sets the damaged checkpoints aside that were newer than the good one of a step, and says so.
func fallBack(dir string, bad []badCheckpoint, step int) error {
	for i, b := range bad {
		aside, err := putAside(checkpointDir(dir, b.step))
		if err != nil {
			return err
		}
		if i == 0 {
			slog.Warn(fmt.Sprintf("%s: the checkpoint of step %d is damaged (%v) and is now %s: resuming from step %d", dir, b.step, b.cause, aside, step))
		}
	}
	return nil
}

// noneGood is the error of a run whose checkpoints are all damaged.
func noneGood(dir string, bad []badCheckpoint) error {
	var all []string
	for _, b := range bad {
		all = append(all, fmt.Sprintf("step %d: %v", b.step, b.cause))
	}
	return fmt.Errorf("%s: no checkpoint of it is good (%s); put one back from a copy, or remove %s and resume, which begins again",
		dir, strings.Join(all, "; "), filepath.Join(dir, checkpointsDir))
}

func writeRecipe(dir string, recipe *recipe.Recipe) error {
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
