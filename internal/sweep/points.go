package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/train"
)

// point is one that a sweep makes: a curve at a number of groups, before or after up-training.
type point struct {
	curve     Curve
	groups    int
	uptrained bool
}

func (p point) kind() kind { return kind{p.curve.conversion(), p.uptrained} }

// points are those to make: the model as it is, then for each curve and number of groups the conversion before and after
// up-training. With as many groups as KV heads the conversion is the model itself, which is there already; up-training it is
// the control, unless it would follow nothing but its own predictions. Two curves may share a conversion.
func (s *sweep) points() []point {
	all := []point{{curve: Curve{Method: report.MethodMHA}, groups: s.heads}}
	converted := map[string]bool{}
	for _, curve := range s.o.Curves {
		for _, groups := range s.o.Groups {
			name := conversionName(curve, groups)
			if groups != s.heads && !converted[name] {
				converted[name] = true
				all = append(all, point{curve, groups, false})
			}
			training := curve.recipe(s.o.Recipe, s.model).Distill
			itself := groups == s.heads && training.Loss == recipe.KL && training.Teacher == s.model
			if s.o.Recipe.Steps > 0 && !itself {
				all = append(all, point{curve, groups, true})
			}
		}
	}
	return all
}

// measureAll makes every point.
func (s *sweep) measureAll(ctx context.Context) error {
	s.stage("measuring the machine", 0)
	s.report.Machine = eval.MachineName()
	s.latencies = map[int]*eval.Latency{}
	points := s.points()
	s.forecast = newForecast(points)
	for i, p := range points {
		s.forecast.next(time.Now(), i == 0)
		if s.number, s.of = i+1, len(points); s.watch.Point != nil {
			s.watch.Point(s.number, s.of, func() (time.Duration, bool) { return s.forecast.left(time.Now()) })
		}
		if i == 0 {
			if err := s.addPoint(ctx, s.model, p.curve, 0); err != nil {
				return err
			}
			continue
		}
		if err := s.make(ctx, p); err != nil {
			return fmt.Errorf("%s at %d groups: %w", p.curve, p.groups, err)
		}
	}
	return nil
}

func conversionName(c Curve, groups int) string { return strconv.Itoa(groups) + "-" + c.conversion() }

// make makes a point of a conversion.
func (s *sweep) make(ctx context.Context, p point) error {
	dir := filepath.Join(s.dir, "models", conversionName(p.curve, p.groups))
	if err := s.convert(ctx, dir, p.curve, p.groups); err != nil {
		return err
	}
	if !p.uptrained {
		return s.addPoint(ctx, dir, p.curve, 0)
	}
	recipe := p.curve.recipe(s.o.Recipe, s.model)
	recipe.Name, recipe.Model, recipe.Data = strconv.Itoa(p.groups)+"-"+p.curve.String(), dir, s.o.Data
	status, err := s.uptrain(ctx, recipe)
	if errors.Is(err, train.ErrDiverged) {
		slog.Warn("the report goes without a point whose up-training diverged", "point", recipe.Name, "err", err)
		s.diverged = append(s.diverged, recipe.Name)
		return nil
	}
	if err != nil {
		return err
	}
	return s.addPoint(ctx, status.Model, p.curve, status.Tokens)
}

func (s *sweep) convert(ctx context.Context, dir string, curve Curve, groups int) error {
	if _, err := os.Stat(dir); err == nil {
		return nil // whole, or it would not be there
	}
	src, err := convert.Open(s.model, convert.SourceOptions{})
	if err != nil {
		return err
	}
	defer src.Close()
	o := curve.options(groups, s.text)
	o.Seed = s.o.Seed
	plan, err := convert.NewPlan(src, o)
	if err != nil {
		return err
	}
	s.stage(fmt.Sprintf("converting to %d groups by %s", groups, curve.conversion()), plan.MergeWork())
	_, err = plan.Run(ctx, dir, convert.RunOptions{OnMerge: s.steps})
	return err
}

// uptrain makes a run, in the folder of its name. What a teacher says is kept for the runs after it.
func (s *sweep) uptrain(ctx context.Context, r recipe.Recipe) (*train.Status, error) {
	if r.Distill.Teacher != "" {
		r.Distill.Cache = cmp.Or(r.Distill.Cache, s.teacher())
	}
	s.stage("up-training "+r.Name, r.Steps)
	return train.Run(ctx, r, train.Options{
		Dir: filepath.Join(s.dir, "runs", r.Name), Observe: func(train.Progress) {
			s.steps(1)
			s.forecast.step(r.Steps)
		},
	})
}

// addPoint evaluates the model in dir, a point of the curve.
func (s *sweep) addPoint(ctx context.Context, dir string, curve Curve, tokens int64) error {
	m, err := eval.LoadModel(ctx, dir, eval.ModelOptions{})
	if err != nil {
		return err
	}
	o := eval.QualityOptions{SeqLen: s.o.Recipe.SeqLen, MaxWindows: s.o.EvalWindows}
	s.stage(fmt.Sprintf("evaluating %s at %d groups", curve, m.Arch.KVHeads), int(o.Windows(s.valid)))
	o.Progress = s.steps
	q, err := eval.MeasureQuality(ctx, m, s.valid, o)
	if err != nil {
		return err
	}
	l, err := s.latency(ctx, m)
	if err != nil {
		return err
	}
	s.report.Points = append(s.report.Points, report.Point{
		Groups: m.Arch.KVHeads, Method: string(curve.Method), Recipe: curve.recipeName(), Alpha: float64(tokens) / float64(s.o.OriginalTokens), UptrainTokens: tokens,
		Loss: q.Loss, LossStderr: q.LossStderr, Perplexity: q.Perplexity,
		DecodeMsPerToken: l.DecodeMSPerTok, DecodeTokensPerS: l.TokensPerS, PrefillMs: l.PrefillMS, Batch: l.Batch, Context: l.Context,
		KVBytesPerToken: l.KVBytesPerToken, Params: m.Parameters,
	})
	slog.Info("point", "number", fmt.Sprintf("%d of %d", s.number, s.of), "method", curve.String(), "groups", m.Arch.KVHeads, "uptrain_tokens", tokens, "loss", round(q.Loss), "decode_ms_per_token", round(l.DecodeMSPerTok))
	return nil
}

func (s *sweep) latency(ctx context.Context, m *eval.Model) (*eval.Latency, error) {
	if l, ok := s.latencies[m.Arch.KVHeads]; ok {
		return l, nil
	}
	s.stage(fmt.Sprintf("timing %d groups", m.Arch.KVHeads), 0)
	l, err := eval.MeasureLatency(ctx, m, eval.Machine{}, eval.LatencyOptions{ // a report has no roofline
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

func (s *sweep) steps(n int64) {
	for range n {
		if s.watch.Step != nil {
			s.watch.Step()
		}
	}
}

func round(x float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 4, 64), 64)
	return r
}
