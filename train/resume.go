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
	"gqa/internal/device"
)

// Resume continues the run in o.Dir from its newest checkpoint, or from the beginning if there is none. First, sets
// changes keys of its recipe ("optimizer.lr=1e-4"). Keys that determine which data a step reads are fixed, and so is the
// optimizer, whose averages are in the checkpoint. A finished run stays as it is unless the number of steps is increased.
//
// Several processes may continue it, however many there were before.
func Resume(ctx context.Context, o Options, sets []string) (*Status, error) {
	if !IsRun(o.Dir) {
		return nil, fmt.Errorf("%s: is not a run: it has no %s", o.Dir, recipeFile)
	}
	b, err := readBegun(o.Dir, sets)
	if err != nil {
		return nil, err
	}
	t, err := joinTeam(b.recipe, o)
	if err != nil {
		return nil, err
	}
	s, err := t.resume(ctx, o, b)
	return s, t.leave(err)
}

// resume is Resume within a team.
func (t *team) resume(ctx context.Context, o Options, b beginning) (*Status, error) {
	recipe := b.recipe
	if err := t.agree(recipe.CheckProcesses(t.Size())); err != nil {
		return nil, err
	}
	err := t.onFirst(func() error {
		release, err := lock(o.Dir)
		if err != nil {
			return err
		}
		t.release = release
		return errors.Join(checkpoints.RemoveLeftovers(o.Dir, Recognize), sweep(o.Dir))
	})
	defer t.unlock()
	if err != nil {
		return nil, err
	}
	s, err := readStatus(o.Dir, false)
	if err := t.agree(err); err != nil {
		return nil, err
	}
	switch {
	case recipe.Steps < s.Saved:
		return nil, fmt.Errorf("steps is %d, but %s has a checkpoint of step %d", recipe.Steps, o.Dir, s.Saved)
	case s.State == Finished && recipe.Steps == s.Saved && slices.ContainsFunc(b.changes, changesResult):
		return nil, fmt.Errorf("%s: is finished after %d steps, so other settings change nothing; set a larger number of steps too", o.Dir, s.Saved)
	case s.State == Finished && recipe.Steps == s.Saved:
		s.Idle = true
		return s, nil
	}
	model := recipe.Model
	if s.Saved > 0 {
		model = checkpointDir(o.Dir, s.Saved)
	}
	if err := t.divide(recipe, model); err != nil {
		return nil, err
	}
	r, err := t.reopen(ctx, o.Dir, recipe, b.identity, b.damage)
	if err != nil {
		return nil, err
	}
	defer device.Close(t.device)
	if err := r.openRest(o); err != nil {
		return nil, err
	}
	err = t.onFirst(func() error {
		if err := writeIdentity(o.Dir, r.identity); err != nil || b.changes == nil {
			return err
		}
		return writeRecipe(o.Dir, recipe)
	})
	if err != nil {
		return nil, err
	}
	return t.finish(r.loop(ctx, o), o.Dir)
}

// beginning is what a run began with.
type beginning struct {
	identity identity
	damage   error          // what is wrong with identity.json
	recipe   *recipe.Recipe // after setting keys
	changes  []recipe.Change
}

// readBegun reads what a run began with, and sets keys of its recipe.
func readBegun(dir string, sets []string) (b beginning, err error) {
	if err := checkFiles(dir); err != nil {
		return b, err
	}
	b.identity, b.damage = readIdentity(dir)
	edited, err := b.identity.checkRecipe(dir)
	if err != nil {
		return b, err
	}
	if edited != nil {
		slog.Warn(fmt.Sprintf("%s: differs from when the run was last begun or resumed: %s", filepath.Join(dir, recipeFile), strings.Join(edited, ", ")))
	}
	b.recipe, b.changes, err = changedRecipe(dir, sets)
	return b, err
}

// changesResult reports whether a change affects more than where and how a run computes.
func changesResult(c recipe.Change) bool {
	return c.Key != "device" && c.Key != "threads" && c.Key != "sharding"
}

// changedRecipe returns the recipe of a run after setting keys, and what has changed.
func changedRecipe(dir string, sets []string) (changed *recipe.Recipe, changes []recipe.Change, err error) {
	old, err := readRecipe(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: is not a run: it has no %s", dir, recipeFile)
	}
	if err != nil {
		return nil, nil, err
	}
	r := old
	for _, set := range sets {
		if err := r.Set(set); err != nil {
			return nil, nil, err
		}
	}
	if err := resolve(&r); err != nil {
		return nil, nil, err
	}
	changes = old.Diff(r)
	for _, change := range changes {
		if slices.Contains(fixedKeys, change.Key) {
			return nil, nil, fmt.Errorf("%s cannot change within a run, from %v to %v; start another run", change.Key, change.Old, change.New)
		}
	}
	return &r, changes, nil
}

// reopen returns a run in the state of its newest good checkpoint, or in its initial state if nothing was saved. damage
// describes what is wrong with its identity.json, whose content must then come from a checkpoint.
func (t *team) reopen(ctx context.Context, dir string, recipe *recipe.Recipe, began identity, damage error) (*run, error) {
	r, bad, err := t.newestGood(ctx, dir, recipe, began, damage)
	if err := t.agree(err); err != nil {
		return nil, err
	}
	steps := []float64{float64(r.state.Step)}
	if err := t.Sum(steps); err != nil {
		return nil, err
	}
	if steps[0] != float64(r.state.Step*t.Size()) {
		return nil, fmt.Errorf("%s: the processes find different checkpoints there, here that of step %d: the folder must be the same for all, on a shared file system",
			dir, r.state.Step)
	}
	if r.state.Step > 0 {
		return r, t.onFirst(func() error { return fallBack(dir, bad, r.state.Step) })
	}
	if err := t.onFirst(func() error { return beginsAgain(dir, recipe) }); err != nil {
		return nil, err
	}
	return r, t.agree(r.continues(began))
}

// newestGood does the work of reopen that changes nothing, and returns the damaged checkpoints too.
func (t *team) newestGood(ctx context.Context, dir string, recipe *recipe.Recipe, began identity, damage error) (*run, []badCheckpoint, error) {
	steps, err := savedSteps(dir)
	if err != nil {
		return nil, nil, err
	}
	if len(steps) == 0 && damage != nil {
		return nil, nil, fmt.Errorf("%w, and there is no checkpoint to restore it from; put it back, or start another run",
			damage)
	}
	if damage != nil {
		slog.Warn(fmt.Sprintf("%v; it is written anew from the checkpoint", damage))
	}
	if len(steps) == 0 {
		r, err := prepare(ctx, t, recipe)
		if err != nil {
			return nil, nil, err
		}
		r.dir = dir
		return r, nil, nil
	}
	if err := t.open(recipe); err != nil {
		return nil, nil, err
	}
	var bad []badCheckpoint
	for _, step := range slices.Backward(steps) {
		r, err := restore(ctx, t, dir, step, recipe, began)
		var damage *damageError
		switch {
		case errors.As(err, &damage):
			bad = append(bad, badCheckpoint{step, damage})
			continue
		case err != nil:
			return nil, nil, err
		}
		return r, bad, nil
	}
	return nil, nil, noneGood(dir, bad)
}

// beginsAgain warns that a run has metrics but no checkpoint to continue from. If the run had saved one, its metrics are
// kept.
func beginsAgain(dir string, recipe *recipe.Recipe) error {
	path := filepath.Join(dir, metricsFile)
	all, _, err := readMetrics(path)
	if err != nil || len(all) == 0 {
		return err
	}
	kept, last := "", all[len(all)-1].Step
	if recipe.SaveEvery > 0 && last > recipe.SaveEvery || last == recipe.Steps {
		aside, err := putAside(path)
		if err != nil {
			return err
		}
		kept = "; the old " + metricsFile + " is now " + aside
	}
	slog.Warn(fmt.Sprintf("%s: reached step %d but has no checkpoint: starting again from the model%s", dir, last, kept))
	return nil
}

// checkFiles returns an error if something else is in the place of one of the run's files.
func checkFiles(dir string) error {
	for _, name := range []string{recipeFile, identityFile, metricsFile, resultFile} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("%s: is not a regular file or a link to one; move it elsewhere", path)
		}
	}
	return nil
}

// continues checks that a reopened run learns from what it started with.
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
		slog.Warn(fmt.Sprintf("%s: it has no %s, which earlier versions did not write: it cannot be verified %s",
			r.dir, identityFile, strings.Join(unknown, ", nor ")))
	}
	now := r.identity.Recipe
	r.identity = began.adopt(r.identity)
	r.identity.Recipe = now
	return nil
}

// damageError describes what is wrong with a checkpoint.
type damageError struct{ error }

func (e *damageError) Unwrap() error { return e.error }

// badCheckpoint is a checkpoint that a run cannot continue from.
type badCheckpoint struct {
	step  int
	cause error
}

// restore returns a run in the state of a step's checkpoint. If the checkpoint is damaged, the error is a damageError.
func restore(ctx context.Context, among *team, dir string, step int, recipe *recipe.Recipe, began identity) (*run, error) {
	dev := among.device
	s, o, t, err := openCheckpoint(ctx, among, dir, step, recipe, began)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case dev.Err() != nil: // the checkpoint may be good
		return nil, loadingError(dev.Err())
	case err != nil:
		return nil, &damageError{err}
	}
	if s.Identity != nil {
		known := began.Recipe != nil // and has already been checked
		if began = began.adopt(*s.Identity); !known {
			if _, err := began.checkRecipe(dir); err != nil {
				return nil, err
			}
		}
	}
	r, err := assemble(ctx, recipe, o, t)
	if err != nil {
		return nil, err
	}
	r.dir, r.state, r.saved = dir, s, s.Step
	s.Economy.adopt(t)
	err = r.readRest(checkpointDir(dir, step))
	switch {
	case dev.Err() != nil:
		return nil, loadingError(dev.Err())
	case err != nil:
		return nil, &damageError{err}
	}
	if s.Data != nil && *s.Data != *r.identity.Data {
		return nil, fmt.Errorf("data: %s has changed since the run began (%d tokens then, %d now): put it back, or start another run",
			recipe.Data, s.Data.Tokens, r.identity.Data.Tokens)
	}
	return r, r.continues(began)
}

// openCheckpoint verifies the checkpoint of a step and reads its model. Any error except one of ctx or of the device
// means that the checkpoint is damaged.
func openCheckpoint(ctx context.Context, among *team, dir string, step int, recipe *recipe.Recipe, began identity) (s state, o *origin, t *trainer, err error) {
	s, err = readState(dir, step)
	switch {
	case err != nil:
	case s.Files == nil && began.Run != "":
		err = errors.New(stateFile + " has no checksums")
	case s.Identity != nil && began.differs(*s.Identity) != nil:
		err = errors.New("it is another run's checkpoint")
	default:
		err = s.verify(ctx, dir)
	}
	if err != nil {
		return s, nil, nil, err
	}
	if o, t, err = openOrigin(ctx, among, checkpointDir(dir, step), recipe); err != nil {
		return s, nil, nil, err
	}
	return s, o, t, s.wrote(o)
}

// readRest restores what a checkpoint holds besides the model.
func (r *run) readRest(dir string) (err error) {
	if err := r.trainer.readState(filepath.Join(dir, momentsFile)); err != nil {
		return err
	}
	if !r.trainer.Finite() {
		return errors.New("it holds numbers that are not finite")
	}
	if r.state.Files != nil {
		r.metrics, err = os.ReadFile(filepath.Join(dir, metricsFile))
		return err
	}
	all, _, err := readMetrics(filepath.Join(r.dir, metricsFile))
	if err == nil {
		r.metrics, err = linesTo(all, r.state.Step)
	}
	return err
}

// fallBack puts the damaged checkpoints newer than the good one of a step aside and logs them in one line.
func fallBack(dir string, bad []badCheckpoint, step int) error {
	var all []string
	for _, b := range bad {
		aside, err := putAside(checkpointDir(dir, b.step))
		if err != nil {
			return err
		}
		all = append(all, fmt.Sprintf("the checkpoint of step %d is damaged (%v) and is now %s", b.step, b.cause, aside))
	}
	if all != nil {
		slog.Warn(fmt.Sprintf("%s: %s: resuming from step %d", dir, strings.Join(all, "; "), step))
	}
	return nil
}

// noneGood returns the error for a run whose checkpoints are all damaged.
func noneGood(dir string, bad []badCheckpoint) error {
	var all []string
	for _, b := range bad {
		all = append(all, fmt.Sprintf("step %d: %v", b.step, b.cause))
	}
	return fmt.Errorf("%s: none of its checkpoints is intact (%s); restore one from a copy, or remove %s and resume, which starts again",
		dir, strings.Join(all, "; "), filepath.Join(dir, checkpointsDir))
}

func writeRecipe(dir string, recipe *recipe.Recipe) error {
	text, err := recipe.YAML()
	if err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(filepath.Join(dir, recipeFile), text, 0o666)
}

// Newest returns the most recently trained run under a folder, judged by its newest metrics or checkpoint.
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

// lastTrained returns the time when a run last wrote something; zero if dir is not a run.
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
