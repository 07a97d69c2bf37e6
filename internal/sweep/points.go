package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"gqa/convert"
	"gqa/eval"
	"gqa/internal/weights"
	"gqa/train"
)

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
		slog.Warn("the report goes without a point whose up-training diverged", "point", name, "err", err)
		s.diverged = append(s.diverged, name)
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
	s.stage(fmt.Sprintf("evaluating %s at %d groups", method, m.Arch.KVHeads), int(o.Windows(s.valid)))
	o.Progress = func(n int64) {
		for range n {
			s.step()
		}
	}
	q, err := eval.MeasureObjective(ctx, m, s.valid, o)
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
	s.stage(fmt.Sprintf("timing %d groups", m.Arch.KVHeads), 0)
	l, err := eval.MeasureLatency(ctx, m, s.machine, eval.LatencyOptions{
		Batch: s.o.Batch, Context: s.o.Context, PromptLen: min(s.o.Context, promptLen),
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
