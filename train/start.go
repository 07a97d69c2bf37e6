package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/device"
	"gqa/internal/devices"
)

const (
	recipeFile = "recipe.yaml"
	modelDir   = "model"
	lockFile   = ".lock"
)

// Run up-trains as the recipe says, in a folder of its own, and returns the state of the run, even if it was interrupted.
// Everything is read and checked before anything is written. If the folder holds a run of the same recipe, Run resumes
// it.
//
// When ctx is canceled, the current step is finished and saved; the error then wraps ErrInterrupted.
func Run(ctx context.Context, recipe recipe.Recipe, o Options) (*Status, error) {
	if err := resolve(&recipe); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if !filepath.IsLocal(recipe.Name) || filepath.Base(recipe.Name) != recipe.Name || recipe.Name == "." {
			return nil, fmt.Errorf("name is %q, want a plain folder name, as the run goes into runs/NAME unless it is given a folder", recipe.Name)
		}
		o.Dir = filepath.Join("runs", recipe.Name)
	}
	t, err := joinTeam(&recipe, o)
	if err != nil {
		return nil, err
	}
	o.team = t
	s, err := t.run(ctx, &recipe, o)
	return s, t.leave(err)
}

// run is Run within a team.
func (t *team) run(ctx context.Context, recipe *recipe.Recipe, o Options) (*Status, error) {
	same := false
	err := t.onFirst(func() (err error) {
		if same, err = existing(o, recipe); err == nil && !same {
			err = outside(o.Dir, recipe)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if same, err = t.decide(same); err != nil {
		return nil, err
	}
	if same {
		b, err := readBegun(o.Dir, onDevice(*recipe))
		if err := t.agree(err); err != nil {
			return nil, err
		}
		return t.resume(ctx, o, b)
	}
	if err := t.divide(recipe, recipe.Model); err != nil {
		return nil, err
	}
	r, err := prepare(ctx, t, recipe)
	if err := t.agree(err); err != nil {
		return nil, err
	}
	defer device.Close(t.device)
	if err := r.openRest(o); err != nil {
		return nil, err
	}
	if err := t.agree(ctx.Err()); err != nil {
		return nil, err
	}
	r.identity.Run = fmt.Sprintf("%016x", rand.Uint64()) // rank 0's is the run's
	err = t.onFirst(func() (err error) {
		if err = createFolder(o, recipe, r.identity); err == nil {
			t.release, err = lock(o.Dir)
		}
		return err
	})
	defer t.unlock()
	if err != nil {
		return nil, err
	}
	r.dir = o.Dir
	if err := r.fit(); err != nil {
		return nil, err
	}
	return t.finish(r.loop(ctx, o), o.Dir)
}

// openRest loads the recipe's tasks, and opens the teacher's cache.
func (r *run) openRest(o Options) error {
	if err := r.team.onFirst(func() error { return r.loadTasks(o.Tasks) }); err != nil {
		return err
	}
	return r.openCache()
}

// openCache opens the teacher's cache, first on rank 0, which may create it.
func (r *run) openCache() error {
	if err := r.team.onFirst(r.trainer.teacher.openCache); err != nil || r.team.alone() {
		return err
	}
	var err error
	if !r.team.first() {
		err = r.trainer.teacher.openCache()
	}
	return r.team.agree(err)
}

// onDevice returns the settings that make a run continue on another recipe's device, and with what its processes divide.
func onDevice(r recipe.Recipe) (sets []string) {
	if r.Device != "" {
		sets = append(sets, "device="+r.Device)
	}
	if r.Sharding != "" {
		sets = append(sets, "sharding="+string(r.Sharding))
	}
	return sets
}

// finish adds the state of the run to its outcome. Processes that do not write know only its folder.
func (t *team) finish(err error, dir string) (*Status, error) {
	if !t.first() {
		return &Status{Run: dir}, err
	}
	s, statusErr := readStatus(dir, false)
	return s, errors.Join(err, statusErr)
}

// resolve validates a recipe and makes its paths absolute; see resolvePaths.
func resolve(r *recipe.Recipe) error {
	if err := r.Resolve(); err != nil {
		return err
	}
	if err := devices.Check(r.Device); err != nil {
		return recipe.Error{Err: fmt.Errorf("device is %q, %w", r.Device, err)}
	}
	if err := resolvePaths(r); err != nil {
		return err
	}
	var err error
	r.Tasks, err = absoluteTasks(r.Tasks)
	return err
}

// existing reports whether the run folder already holds a run of this recipe. A run of another recipe is an error.
func existing(o Options, recipe *recipe.Recipe) (same bool, err error) {
	old, err := readRecipe(o.Dir)
	if o.Force || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	old.Threads, old.Device, old.Sharding = recipe.Threads, recipe.Device, recipe.Sharding // a run may be resumed with others
	if data.LabelRows(recipe.Data) == old.SeqLen {
		old.SeqLen = recipe.SeqLen // determined by the data's rows
	}
	var changes []string
	for _, c := range old.Diff(*recipe) {
		changes = append(changes, c.String())
	}
	if changes == nil {
		return true, nil
	}
	return false, checkpoints.FolderError{Dir: o.Dir, Err: fmt.Errorf("%w: %s", ErrSettings, strings.Join(changes, ", ")), Replaceable: true}
}

func readRecipe(dir string) (recipe.Recipe, error) {
	path := filepath.Join(dir, recipeFile)
	if _, err := os.Stat(path); err != nil {
		return recipe.Recipe{}, err
	}
	return recipe.Load(path)
}

// createFolder creates the run folder with the recipe and the run's initial state, replacing an older one if forced.
func createFolder(o Options, recipe *recipe.Recipe, began identity) (err error) {
	if _, err := os.Lstat(filepath.Join(o.Dir, lockFile)); err == nil {
		release, err := lock(o.Dir) // a run in progress must not lose its folder
		if err != nil {
			return err
		}
		release()
	}
	out, err := checkpoints.NewOutput(o.Dir, o.Force, Recognize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Abort()) }()
	text, err := recipe.YAML()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out.Dir(), recipeFile), text, 0o666); err != nil {
		return err
	}
	if err := writeSealed(filepath.Join(out.Dir(), identityFile), began); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out.Dir(), metricsFile), nil, 0o666); err != nil { // marks the folder as a run
		return err
	}
	return out.Commit()
}

// lock locks a run folder for this process.
func lock(dir string) (release func(), err error) {
	release, held, err := tryLock(filepath.Join(dir, lockFile))
	for range 10 { // gqa-train status takes the lock briefly
		if !held {
			break
		}
		time.Sleep(10 * time.Millisecond)
		release, held, err = tryLock(filepath.Join(dir, lockFile))
	}
	if held {
		return nil, fmt.Errorf("%s: another process is training this run; wait for it or stop it (if there is none, remove %s)", dir, filepath.Join(dir, lockFile))
	}
	return release, err
}

// checkLock returns an error for a file that cannot be a lock: opening a pipe might block forever, and a link leads to
// another file.
func checkLock(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: is not a regular file, so it cannot be the run's lock; remove it", path)
	}
	return nil
}
