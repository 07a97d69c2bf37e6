package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
)

const resultsFile = "results.jsonl"

// Result is a cell with what came out: a line of results.jsonl.
type Result struct {
	Cell
	Tokens    int64   `json:"tokens"`
	ValidLoss float64 `json:"valid_loss"`
	Stderr    float64 `json:"valid_loss_stderr"`
	KL        float64 `json:"kl"` // KL(original || model) over the same windows
	Curve     []Point `json:"curve,omitempty"`
}

// Point is a validation loss along a run.
type Point struct {
	Tokens int64   `json:"tokens"`
	Loss   float64 `json:"loss"`
}

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
		all = append(all, r)
	}
	return all, lines.Err()
}

// runner makes the cells that are missing.
type runner struct {
	study   *Study
	dir     string
	bin     string
	threads int
	done    []Result

	mu          sync.Mutex // of the results' file
	conversions sync.Map   // name -> *sync.Mutex
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
	model, err := r.convert(ctx, c)
	if err != nil {
		return err
	}
	result := Result{Cell: c}
	if c.Alpha > 0 {
		run := filepath.Join(r.dir, "runs", c.name())
		if err := r.train(ctx, c, model, run); err != nil {
			return err
		}
		model = filepath.Join(run, "model")
		if result.Curve, err = curve(filepath.Join(run, "metrics.jsonl")); err != nil {
			return err
		}
		result.Tokens = int64(r.study.tokens(c))
	}
	if err := r.evaluate(ctx, model, &result); err != nil {
		return err
	}
	log.Printf("%s: loss %.4f", c.name(), result.ValidLoss)
	return r.keep(result)
}

// convert makes the cell's conversion unless it is there; two cells may want the same one.
func (r *runner) convert(ctx context.Context, c Cell) (dir string, err error) {
	c = r.study.conversion(c)
	lock, _ := r.conversions.LoadOrStore(c.name(), new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	dir = filepath.Join(r.dir, "models", c.name())
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // whole, or it would not be there
	}
	m := r.study.Models[c.Model]
	args := append([]string{"--groups", strconv.Itoa(c.Groups), "--seed", strconv.Itoa(c.Seed), "-o", dir}, m.expand(r.study.Starts[c.Start])...)
	_, err = r.call(ctx, "gqa-convert", append(args, m.Path)...)
	return dir, err
}

func (r *runner) train(ctx context.Context, c Cell, model, run string) error {
	m, s, steps := r.study.Models[c.Model], r.study, r.study.steps(c)
	args := []string{
		"run", "-o", run, "--model", model, "--data", m.Data, "--valid", m.Valid, "--loss", c.Loss, "--seed", strconv.Itoa(c.Seed),
		"--steps", strconv.Itoa(steps), "--batch", strconv.Itoa(s.batch(c)), "--seq-len", strconv.Itoa(s.SeqLen),
		"--warmup", strconv.Itoa(max(1, int(s.Warmup*float64(steps)))),
		"--valid-every", strconv.Itoa(max(1, steps/s.Points)), "--set", "valid_windows=" + strconv.Itoa(s.Curve),
		"--save-every", "0", "--keep", "1", "--quiet",
	}
	if c.Loss != "ce" {
		args = append(args, "--teacher", m.Path)
	}
	args = append(append(args, s.Train...), s.Recipes[c.Recipe].Train...)
	_, err := r.call(ctx, "gqa-train", args...)
	if err == nil {
		err = os.RemoveAll(filepath.Join(run, "checkpoints"))
	}
	return err
}

func (r *runner) evaluate(ctx context.Context, model string, result *Result) error {
	m := r.study.Models[result.Model]
	out, err := r.call(ctx, "gqa-eval", "quality", model, "--data", m.Valid, "--teacher", m.Path, "--seq-len", strconv.Itoa(r.study.SeqLen),
		"--max-windows", strconv.Itoa(r.study.Eval), "--json", "--quiet")
	if err != nil {
		return err
	}
	var q struct {
		Loss   float64 `json:"loss"`
		Stderr float64 `json:"loss_stderr"`
		KL     float64 `json:"kl"`
	}
	err = json.Unmarshal(out, &q)
	result.ValidLoss, result.Stderr, result.KL = q.Loss, q.Stderr, q.KL
	return err
}

// call runs one of the three commands and returns what it prints.
func (r *runner) call(ctx context.Context, name string, args ...string) ([]byte, error) {
	if r.threads > 0 {
		args = append(args, "--threads", strconv.Itoa(r.threads))
	}
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, name), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %v: %w: %s", name, args, err, stderr.Bytes())
	}
	return out, nil
}

// keep adds a line to the results.
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

// curve is the validation losses of a run.
func curve(path string) (points []Point, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var m struct {
			Tokens    int64    `json:"tokens"`
			ValidLoss *float64 `json:"valid_loss"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if m.ValidLoss != nil {
			points = append(points, Point{m.Tokens, *m.ValidLoss})
		}
	}
	return points, nil
}
