package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/eval/tasks"
	"gqa/internal/sweep"
	"gqa/train"
)

const resultsFile = "results.jsonl"

// Result is a cell with its results: a line of results.jsonl.
type Result struct {
	Cell
	Tokens    int64   `json:"tokens"`
	ValidLoss float64 `json:"valid_loss"`
	Stderr    float64 `json:"valid_loss_stderr"`
	KL        float64 `json:"kl"` // KL(original || model) over the same windows
	// Figures are those of the model's tasks, such as brackets_acc, and of a conversion kvBytes and decodeMS.
	Figures map[string]float64 `json:"figures,omitempty"`
	Curve   []Point            `json:"curve,omitempty"`
}

// Point is a validation loss during a run.
type Point struct {
	Tokens int64   `json:"tokens"`
	Loss   float64 `json:"loss"`
}

// readResults returns the results of a file, without those that later lines replace.
func readResults(path string) (all []Result, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if i := slices.IndexFunc(all, func(old Result) bool { return old.Cell == r.Cell }); i >= 0 {
			all[i] = r
		} else {
			all = append(all, r)
		}
	}
	return all, lines.Err()
}

// runner makes the missing cells.
type runner struct {
	study *Study
	dir   string
	done  []Result

	mu          sync.Mutex // of the results' file
	conversions sync.Map   // folder -> *sync.Mutex
}

func (r *runner) run(ctx context.Context, jobs int, only *regexp.Regexp) error {
	held := map[Cell]bool{}
	for _, d := range r.done {
		held[d.Cell] = true
	}
	work := make(chan Cell)
	var workers sync.WaitGroup
	var failed error
	for range jobs {
		workers.Go(func() {
			for c := range work {
				if err := r.make(ctx, c); err != nil && ctx.Err() == nil {
					log.Printf("%s: %v", c.name(), err)
					r.mu.Lock()
					failed = errors.Join(failed, fmt.Errorf("%s: %w", c.name(), err))
					r.mu.Unlock()
				}
			}
		})
	}
	for _, c := range r.study.cells() {
		if !held[c] && only.MatchString(c.name()) && ctx.Err() == nil {
			work <- c
		}
	}
	close(work)
	workers.Wait()
	return errors.Join(failed, ctx.Err())
}

// make converts, up-trains and evaluates one cell.
func (r *runner) make(ctx context.Context, c Cell) error {
	p, err := r.point(c)
	if err != nil {
		return err
	}
	if err := r.convert(ctx, p); err != nil {
		return err
	}
	model, result := p.Conversion, Result{Cell: c}
	if c.Alpha > 0 {
		status, err := p.Uptrain(ctx, sweep.Watcher{})
		if err != nil {
			return err
		}
		model, result.Tokens = status.Model, status.Tokens
		if err := os.RemoveAll(filepath.Join(p.Run, "checkpoints")); err != nil {
			return err
		}
		if result.Curve, err = curve(filepath.Join(p.Run, "metrics.jsonl")); err != nil {
			return err
		}
	}
	if err := r.evaluate(ctx, p, model, &result); err != nil {
		return err
	}
	log.Printf("%s: loss %.4f", c.name(), result.ValidLoss)
	return r.keep(result)
}

// point returns the point that the toolkit must make for a cell.
func (r *runner) point(c Cell) (p sweep.Point, err error) {
	from := r.study.conversion(c)
	p = sweep.Point{
		Model: r.study.Models[c.Model].Path, Device: r.study.Models[c.Model].Device, Curve: r.study.Starts[c.Start], Groups: c.Groups, Seed: uint64(from.Seed),
		Conversion: filepath.Join(r.dir, "models", from.name()),
	}
	p.Text = func(ctx context.Context, src *convert.Source) (*calibrate.Data, error) {
		return calibrate.Load(ctx, r.study.Models[c.Model].Data, src.Dir, src.Arch, calibrate.Options{
			Tokens: r.study.Text, Steps: p.Curve.Refine, Seed: p.Seed,
		})
	}
	if c.Alpha > 0 {
		p.Run = filepath.Join(r.dir, "runs", c.name())
		p.Recipe, err = r.study.recipe(c)
	}
	return p, err
}

// convert makes a point's conversion unless it exists; two cells may need the same one.
func (r *runner) convert(ctx context.Context, p sweep.Point) error {
	lock, _ := r.conversions.LoadOrStore(p.Conversion, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	return p.Convert(ctx, sweep.Watcher{})
}

// evaluate measures a point's model in comparison with the original.
func (r *runner) evaluate(ctx context.Context, p sweep.Point, dir string, result *Result) error {
	of := r.study.Models[result.Model]
	original, err := eval.LoadModel(ctx, p.Model, eval.ModelOptions{Device: of.Device})
	if err != nil {
		return err
	}
	defer original.Close()
	o := eval.QualityOptions{SeqLen: r.study.SeqLen, MaxWindows: cmp.Or(of.Eval, r.study.Eval), Teacher: original}
	m, q, err := p.Measure(ctx, dir, func(m *eval.Model) (*eval.Corpus, error) {
		return eval.LoadCorpus(ctx, of.Valid, m, o)
	}, o, sweep.Watcher{})
	if m != nil {
		defer m.Close()
	}
	if err != nil {
		return err
	}
	result.ValidLoss, result.Stderr, result.KL = q.Loss, q.LossStderr, *q.KL
	result.Figures = map[string]float64{}
	return measureTasks(ctx, m, of.Tasks, result.Figures)
}

// measureTasks adds a model's figures of tasks.
func measureTasks(ctx context.Context, m *eval.Model, names []string, figures map[string]float64) error {
	all, err := tasks.LoadAll(names)
	if err != nil {
		return err
	}
	measured, err := tasks.MeasureAll(ctx, m, all, tasks.Options{})
	if err != nil {
		return err
	}
	for name, f := range measured.Figures() {
		figures[name] = f.Value
	}
	return nil
}

// keep appends a line to the results.
func (r *runner) keep(result Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line, err := json.Marshal(result)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(r.dir, resultsFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

// curve returns the validation losses of a run.
func curve(path string) (points []Point, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var m train.Metrics
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if m.ValidLoss != nil {
			points = append(points, Point{m.Tokens, *m.ValidLoss})
		}
	}
	return points, nil
}
