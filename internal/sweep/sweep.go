// Package sweep is the whole road in one call: convert a model to each number of groups, up-train each conversion, evaluate
// everything, and write the trade-off's report. Its parts meet on disk only, in one folder:
//
//	sweep.json        what was asked for; the same again goes on where it stopped
//	models/GROUPS-METHOD/          the conversions, before up-training
//	runs/GROUPS-METHOD/            the up-trainings; model/ in each is the result
//	report.json, report.html, …    the report
package sweep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/convert"
	"gqa/eval"
	"gqa/internal/stream"
	"gqa/internal/weights"
	"gqa/train"
)

// Options say what to sweep over and how to measure. They are kept in sweep.json.
type Options struct {
	Model   string           `json:"model"` // folder or file; empty: the embedded sample, extracted into the sweep's folder
	Data    string           `json:"data"`  // corpus to up-train on
	Valid   string           `json:"valid"` // corpus to evaluate on
	Groups  []int            `json:"groups"`
	Methods []convert.Method `json:"methods"`
	Seed    uint64           `json:"seed"`
	Recipe  configs.Recipe   `json:"recipe"` // of every up-training; Steps 0: none

	EvalWindows    int   `json:"eval_windows"` // of Recipe.SeqLen tokens; 0: all
	Batch          int   `json:"batch"`        // of the latency
	Context        int   `json:"context"`
	OriginalTokens int64 `json:"original_tokens"` // that the model was pre-trained on; 0: estimated
}

// Watcher hears how a sweep goes. Its functions may be nil.
type Watcher struct {
	Stage func(name string, steps int) // a piece of work begins
	Step  func()                       // of the piece of work
}

// ReportFolder is where a sweep without a folder goes.
const ReportFolder = "sweep"

// Run makes the sweep in dir. A folder that holds a sweep with the same options is completed: what is there is not made again,
// except measurements. With force, one with other options is replaced.
func Run(ctx context.Context, dir string, o Options, force bool, w Watcher) (eval.Report, error) {
	s := &sweep{dir: dir, o: o, watch: w}
	if err := s.open(force); err != nil {
		return eval.Report{}, err
	}
	if err := s.load(ctx); err != nil {
		return eval.Report{}, err
	}
	if err := s.measureAll(ctx); err != nil {
		return eval.Report{}, err
	}
	return s.report, s.report.Write(dir)
}

type sweep struct {
	dir    string
	o      Options
	watch  Watcher
	model  string // folder of the multi-head model
	valid  *stream.Stream
	report eval.Report

	machine   eval.Machine
	latencies map[int]*eval.Latency // by groups: neither method nor weights change what a step computes
}

// open makes the folder, or recognises it.
func (s *sweep) open(force bool) error {
	want, err := json.MarshalIndent(s.o, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "sweep.json")
	have, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(have, want):
		slog.Info("going on with a sweep", "dir", s.dir)
		return nil
	case err == nil && !force:
		return fmt.Errorf("%s: holds a sweep with other options; choose another folder with -o, or --force to replace it", s.dir)
	case errors.Is(err, fs.ErrNotExist):
		if err := emptyOrMissing(s.dir); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		for _, part := range []string{"sweep.json", "models", "runs"} {
			if err := os.RemoveAll(filepath.Join(s.dir, part)); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(file, want, 0o666)
}

func emptyOrMissing(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: is not empty and holds no sweep; choose another folder with -o", dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// load readies the model and the corpus, and checks every conversion before the first is made.
func (s *sweep) load(ctx context.Context) error {
	s.model = s.o.Model
	if s.model == "" {
		s.model = filepath.Join(s.dir, "models", checkpoints.SampleName)
		if err := checkpoints.ExtractSample(s.model); err != nil {
			return err
		}
	}
	src, err := weights.Open(s.model, weights.Options{})
	if err != nil {
		return err
	}
	defer src.Close()
	for _, g := range s.o.Groups {
		for _, m := range s.o.Methods {
			if _, err := convert.NewPlan(src, convert.Options{Groups: g, Method: m}); err != nil {
				return err
			}
		}
	}
	parameters, err := weights.Parameters(src.Arch)
	if err != nil {
		return err
	}
	if s.o.OriginalTokens == 0 {
		s.o.OriginalTokens = 20 * parameters
		slog.Warn("the original number of pre-training tokens is not known: alpha is against 20 a parameter; give --original-tokens", "tokens", s.o.OriginalTokens)
	}
	s.report.Model = fmt.Sprintf("%s (%s, %.4gM parameters, %d heads)", filepath.Base(src.Dir), src.Arch.Family.Name, float64(parameters)/1e6, src.Arch.Heads)
	s.report.Corpus = s.o.Valid
	limit := s.o.EvalWindows * s.o.Recipe.SeqLen
	s.valid, err = stream.Load(ctx, s.o.Valid, src.Dir, src.Arch.Vocab, limit)
	return err
}

// measureAll makes every point: the model as it is, then for each method and number of groups the conversion before and
// after up-training.
func (s *sweep) measureAll(ctx context.Context) error {
	s.stage("measuring the machine", 0)
	s.machine = eval.MeasureMachine()
	s.report.Machine = s.machine.Name
	s.latencies = map[int]*eval.Latency{}
	if err := s.addPoint(ctx, s.model, eval.MethodMHA, 0); err != nil {
		return err
	}
	heads := s.report.Points[0].Groups
	for _, method := range s.o.Methods {
		for _, groups := range s.o.Groups {
			if err := s.conversion(ctx, method, groups, heads); err != nil {
				return fmt.Errorf("%s at %d groups: %w", method, groups, err)
			}
		}
	}
	return nil
}

// conversion makes the points of one conversion. With as many groups as KV heads the conversion is the model itself, which
// is there already; up-training it is the control.
func (s *sweep) conversion(ctx context.Context, method convert.Method, groups, heads int) error {
	name := strconv.Itoa(groups) + "-" + string(method)
	dir := filepath.Join(s.dir, "models", name)
	if err := s.convert(ctx, dir, method, groups); err != nil {
		return err
	}
	if groups != heads {
		if err := s.addPoint(ctx, dir, string(method), 0); err != nil {
			return err
		}
	}
	if s.o.Recipe.Steps == 0 {
		return nil
	}
	status, err := s.uptrain(ctx, name, dir)
	if errors.Is(err, train.ErrDiverged) {
		slog.Warn("the report goes without a point whose up-training diverged; a lower learning rate may help", "point", name, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	return s.addPoint(ctx, status.Model, string(method), status.Tokens)
}

func (s *sweep) convert(ctx context.Context, dir string, method convert.Method, groups int) error {
	if _, err := os.Stat(dir); err == nil {
		return nil // whole, or it would not be there
	}
	s.stage(fmt.Sprintf("converting to %d groups by %s", groups, method), 0)
	src, err := weights.Open(s.model, weights.Options{})
	if err != nil {
		return err
	}
	defer src.Close()
	plan, err := convert.NewPlan(src, convert.Options{Groups: groups, Method: method, Seed: s.o.Seed})
	if err != nil {
		return err
	}
	_, err = plan.Run(ctx, dir, false, func(int64) {})
	return err
}

func (s *sweep) uptrain(ctx context.Context, name, model string) (*train.Status, error) {
	r := s.o.Recipe
	r.Name, r.Model, r.Data = name, model, s.o.Data
	s.stage("up-training "+name, r.Steps)
	return train.Run(ctx, r, train.Options{
		Dir: filepath.Join(s.dir, "runs", name), Observe: func(train.Progress) { s.step() },
	})
}

// addPoint evaluates the model in dir.
func (s *sweep) addPoint(ctx context.Context, dir, method string, tokens int64) error {
	m, err := eval.LoadModel(dir)
	if err != nil {
		return err
	}
	o := eval.QualityOptions{SeqLen: s.o.Recipe.SeqLen, MaxWindows: s.o.EvalWindows}
	s.stage(fmt.Sprintf("evaluating %s at %d groups", method, m.Arch.KVHeads), int(o.Windows(m, len(s.valid.IDs))))
	o.Progress = func(n int64) {
		for range n {
			s.step()
		}
	}
	q, err := eval.MeasureQuality(ctx, m, s.valid, o)
	if err != nil {
		return err
	}
	l, err := s.latency(ctx, m)
	if err != nil {
		return err
	}
	s.report.Points = append(s.report.Points, eval.Point{
		Groups: m.Arch.KVHeads, Method: method, Alpha: float64(tokens) / float64(s.o.OriginalTokens), UptrainTokens: tokens,
		Loss: q.Loss, LossStderr: q.LossStderr, Perplexity: q.Perplexity,
		DecodeMsPerToken: l.DecodeMSPerTok, DecodeTokensPerS: l.TokensPerS, PrefillMs: l.PrefillMS, Batch: l.Batch, Context: l.Context,
		KVBytesPerToken: l.KVBytesPerToken, Params: m.Parameters,
	})
	slog.Info("point", "method", method, "groups", m.Arch.KVHeads, "uptrain_tokens", tokens, "loss", round(q.Loss), "decode_ms_per_token", round(l.DecodeMSPerTok))
	return nil
}

func (s *sweep) latency(ctx context.Context, m *eval.Model) (*eval.Latency, error) {
	if l, ok := s.latencies[m.Arch.KVHeads]; ok {
		return l, nil
	}
	length := s.o.Context
	if m.CheckLength(length+1) != nil {
		length = m.Arch.Context - 1
	}
	s.stage(fmt.Sprintf("timing %d groups", m.Arch.KVHeads), 0)
	l, err := eval.MeasureLatency(ctx, m, s.machine, eval.LatencyOptions{
		Batch: s.o.Batch, Context: length, PromptLen: min(length, promptLen),
	})
	s.latencies[m.Arch.KVHeads] = l
	return l, err
}

// promptLen is the length of the prompts whose prefill is timed.
const promptLen = 128

func (s *sweep) stage(name string, steps int) {
	if s.watch.Stage != nil {
		s.watch.Stage(name, steps)
	}
}

func (s *sweep) step() {
	if s.watch.Step != nil {
		s.watch.Step()
	}
}

func round(x float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 4, 64), 64)
	return r
}

// SampleTokens is how many tokens the embedded sample was pre-trained on; 0 if its reference does not say.
func SampleTokens() int64 {
	data, err := checkpoints.SampleFile("reference.json")
	if err != nil {
		return 0
	}
	var reference struct {
		Tokens int64 `json:"tokens"`
	}
	if err := json.Unmarshal(data, &reference); err != nil {
		return 0
	}
	return reference.Tokens
}
