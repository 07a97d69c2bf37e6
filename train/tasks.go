package train

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/model"
	"gqa/internal/weights"
)

// TaskModel is a model in training, to be measured on tasks.
type TaskModel struct {
	Dir     string // has config.json and the tokenizer, but no weights
	Arch    *configs.Arch
	Weights model.Weights // passes copies
	Device  string        // that the run computes on, by name
}

// TaskFigure is a figure of a model on a task.
type TaskFigure struct {
	Value       float64
	LowerBetter bool
}

// Measure measures a model on tasks and returns the figures by name.
type Measure func(ctx context.Context, m TaskModel) (map[string]TaskFigure, error)

// Tasks loads tasks by the names that a recipe gives, and returns what measures a model on them, on at most so many items of each; 0: all.
type Tasks func(names []string, limit int) (Measure, error)

// loadTasks loads the recipe's tasks, if it names any. Among several processes only rank 0 does.
func (r *run) loadTasks(load Tasks) (err error) {
	switch {
	case r.recipe.Tasks == "":
		return nil
	case load == nil:
		return errors.New("tasks: this program cannot measure tasks; leave the key out")
	}
	if r.measure, err = load(strings.Split(r.recipe.Tasks, ","), r.recipe.TasksLimit); err != nil {
		return fmt.Errorf("tasks: %w", err)
	}
	return nil
}

// absoluteTasks makes the paths in a list of tasks absolute: of FILE and of FORMAT=FILE.
func absoluteTasks(list string) (string, error) {
	if list == "" {
		return "", nil
	}
	names := strings.Split(list, ",")
	for i, name := range names {
		format, path, found := strings.Cut(name, "=")
		if !found {
			format, path = "", name
		}
		if _, err := os.Stat(path); err != nil {
			continue // a name, or an error when it is loaded
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		if names[i] = abs; found {
			names[i] = format + "=" + abs
		}
	}
	return strings.Join(names, ","), nil
}

// tasksDue reports whether tasks are to be measured after a step.
func (r *run) tasksDue(step int) bool {
	return r.recipe.Tasks != "" && (step == r.recipe.Steps || due(step, r.recipe.TasksEvery))
}

// measureTasks adds the figures of tasks to the metrics of the step just made. If the best checkpoint does not depend on them, a failure
// is only logged.
func (r *run) measureTasks(ctx context.Context, m *Metrics) (map[string]TaskFigure, error) {
	figures, err := r.figuresOfTasks(ctx)
	switch {
	case err == nil:
		m.Tasks = map[string]Figure{}
		for name, f := range figures {
			m.Tasks[name] = Figure(f.Value)
		}
		return figures, nil
	case ctx.Err() != nil: // they are measured when the run is resumed
		return nil, nil
	case r.recipe.Best == "" || r.recipe.Best == bestLoss:
		slog.Warn(fmt.Sprintf("step %d: the tasks are not measured: %v", m.Step, err))
		return nil, nil
	}
	return nil, r.stopped(fmt.Errorf("step %d: tasks: %w", m.Step, err))
}

func (r *run) figuresOfTasks(ctx context.Context) (figures map[string]TaskFigure, err error) {
	dir, err := os.MkdirTemp("", "gqa-tasks-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := r.origin.writeSide(dir); err != nil {
		return nil, err
	}
	r.trainer.teacher.release()
	name := "cpu"
	if _, ok := r.trainer.device.(device.Namer); ok {
		if name, err = r.team.deviceName(r.recipe); err != nil {
			return nil, err
		}
	}
	return r.measure(ctx, TaskModel{Dir: dir, Arch: r.origin.arch, Device: name, Weights: r.copies})
}

// copies passes copies of the weights of the result, if the run ended now.
func (r *run) copies(receive func(p configs.Param, values []float32) error) error {
	params, err := r.origin.arch.Params()
	for _, p := range params {
		if err == nil {
			err = receive(p, slices.Clone(r.trainer.Result(p.Name)))
		}
	}
	return err
}

// bestLoss is the value of a recipe's best that means the validation loss.
const bestLoss = "loss"

// best is the best validation of a run, as its recipe's best says.
type best struct {
	step  int // 0: there was none yet
	value float64
	since int // number of validations after it
}

// bestOf returns the best validation of steps.
func bestOf(steps []Metrics, name string) (b best) {
	for _, m := range steps {
		value, ok := m.judged(name)
		switch {
		case !ok:
		case m.Best:
			b = best{step: m.Step, value: value}
		default:
			b.since++
		}
	}
	return b
}

// judged returns the figure by which validations are compared; false if the step has none.
func (m Metrics) judged(name string) (float64, bool) {
	if name == bestLoss && m.ValidLoss != nil {
		return *m.ValidLoss, true
	}
	value, ok := m.Tasks[name]
	return float64(value), ok
}

// judge compares a validation with the best one.
func (r *run) judge(m *Metrics, figures map[string]TaskFigure) error {
	name := r.recipe.Best
	value, ok := m.judged(name)
	if f, measured := figures[name]; !ok && m.Tasks != nil && name != "" && name != bestLoss && !measured {
		return r.stopped(fmt.Errorf("best is %q, want %s or one of the tasks' figures: %s", name, bestLoss, strings.Join(slices.Sorted(maps.Keys(figures)), ", ")))
	} else if !ok || !isFinite(value) {
		return nil
	} else if lower := name == bestLoss || f.LowerBetter; r.best.step == 0 || lower && value < r.best.value || !lower && value > r.best.value {
		m.Best, r.best = true, best{step: m.Step, value: value}
		return nil
	}
	r.best.since++
	return nil
}

// shareBest gives all processes what rank 0 has judged, and lets all stop if one was asked to meanwhile.
func (r *run) shareBest(ctx context.Context) error {
	if r.team.alone() {
		return nil
	}
	x := []float64{0, 0, count(ctx.Err() != nil)}
	if r.team.first() {
		x[0], x[1] = float64(r.best.step), float64(r.best.since)
	}
	if err := r.team.Sum(x); err != nil {
		return err
	}
	r.best.step, r.best.since = int(x[0]), int(x[1])
	r.stop = r.stop || x[2] > 0
	return nil
}

// bestWeights returns a function that returns the weights of the result: the best checkpoint's, or the last ones.
func (r *run) bestWeights() (weight func(name string) []float32, err error) {
	if r.recipe.Best == "" || r.best.step == 0 || r.best.step == r.state.Step {
		return r.trainer.Result, nil
	}
	dir := checkpointDir(r.dir, r.best.step)
	src, err := weights.Open(dir, weights.Options{})
	if err != nil {
		return nil, fmt.Errorf("the best checkpoint: %w; clear best to have the last model as the result", err)
	}
	all, err := src.All(context.Background())
	src.Close()
	if err != nil {
		return nil, fmt.Errorf("the best checkpoint: %w; clear best to have the last model as the result", err)
	}
	return weights.ByName(all), nil
}

// endEarly makes the step just made the last one, if validations have not improved for too long.
func (r *run) endEarly() error {
	if r.recipe.Patience == 0 || r.best.since < r.recipe.Patience || r.state.Step == r.recipe.Steps {
		return nil
	}
	slog.Info(fmt.Sprintf("the run ends after step %d of %d: the last %d validations were not better than that of step %d",
		r.state.Step, r.recipe.Steps, r.best.since, r.best.step))
	r.recipe.Steps = r.state.Step
	if err := r.recipe.Resolve(); err != nil { // its alpha
		return err
	}
	values, err := recipeValues(r.recipe)
	if err != nil {
		return err
	}
	r.identity.Recipe = values
	return r.team.onFirst(func() error { return errors.Join(writeIdentity(r.dir, r.identity), writeRecipe(r.dir, r.recipe)) })
}
