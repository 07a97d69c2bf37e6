package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/train"
)

// points returns the points to make: the original model, then for each curve and number of groups the conversion before
// and after up-training. With as many groups as KV heads the conversion is the original model itself, which is already
// there; up-training it is the control, unless it would only follow its own predictions. Two curves may share a
// conversion.
func (s *sweep) points() []Point {
	all := []Point{{Curve: Curve{Method: report.MethodMHA}, Groups: s.heads, Device: s.o.Recipe.Device}}
	converted := map[string]bool{}
	for _, curve := range s.o.Curves {
		for _, groups := range s.o.Groups {
			p := s.point(curve, groups)
			if groups != s.heads && !converted[p.Conversion] {
				converted[p.Conversion] = true
				all = append(all, p)
			}
			r := s.recipe(curve, groups)
			itself := groups == s.heads && r.Distill.Loss == recipe.KL && r.Distill.Teacher == s.model
			if r.Steps > 0 && !itself {
				p.Recipe, p.Run = r, filepath.Join(s.dir, "runs", r.Name)
				all = append(all, p)
			}
		}
	}
	return all
}

// point returns a conversion.
func (s *sweep) point(curve Curve, groups int) Point {
	return Point{
		Model: s.model, Curve: curve, Groups: groups, Seed: s.o.Seed, Device: s.o.Recipe.Device,
		Text:       func(context.Context, *convert.Source) (*calibrate.Data, error) { return s.text, nil },
		Conversion: filepath.Join(s.dir, "models", strconv.Itoa(groups)+"-"+curve.conversion()),
	}
}

// recipe returns the recipe of an up-training. A teacher's predictions are cached for later runs.
func (s *sweep) recipe(curve Curve, groups int) recipe.Recipe {
	r := curve.recipe(s.o.Recipe, s.model)
	r.Name, r.Data = strconv.Itoa(groups)+"-"+curve.String(), s.o.Data
	if r.Distill.Teacher != "" {
		r.Distill.Cache = cmp.Or(r.Distill.Cache, s.teacher())
	}
	return r
}

// measureAll makes every point.
func (s *sweep) measureAll(ctx context.Context) error {
	s.report.Version = report.Version
	s.o.About.describe(&s.report)
	points := s.points()
	s.forecast = newForecast(points)
	for i, p := range points {
		s.forecast.next(time.Now(), i == 0)
		if s.number, s.of = i+1, len(points); s.watch.Point != nil {
			s.watch.Point(s.number, s.of, func() (time.Duration, bool) { return s.forecast.left(time.Now()) })
		}
		if i == 0 {
			if err := s.addPoint(ctx, p, s.model, 0); err != nil {
				return err
			}
			continue
		}
		if err := s.make(ctx, p); err != nil {
			return fmt.Errorf("%s at %d groups: %w", p.Curve, p.Groups, err)
		}
	}
	return timer{s.o.Recipe.Device, s.o.Timing, s.watch}.time(ctx, s.untimed)
}

// make makes a point of a conversion.
func (s *sweep) make(ctx context.Context, p Point) error {
	if err := p.Convert(ctx, s.watch); err != nil {
		return err
	}
	if !p.uptrained() {
		return s.addPoint(ctx, p, p.Conversion, 0)
	}
	watch := s.watch
	watch.Step = func() {
		s.watch.steps(1)
		s.forecast.step(p.Recipe.Steps)
	}
	status, err := p.Uptrain(ctx, watch)
	if errors.Is(err, train.ErrDiverged) {
		slog.Warn("the report omits a point whose up-training diverged", "point", p.Recipe.Name, "err", err)
		s.diverged = append(s.diverged, p.Recipe.Name)
		return nil
	}
	if err != nil {
		return err
	}
	return s.addPoint(ctx, p, status.Model, status.Tokens)
}

// addPoint evaluates the model of a point, which is in dir, and adds it to those that are to be timed.
func (s *sweep) addPoint(ctx context.Context, p Point, dir string, tokens int64) error {
	o := eval.QualityOptions{SeqLen: s.o.Recipe.SeqLen, MaxWindows: s.o.EvalWindows}
	m, q, err := p.Measure(ctx, dir, func(*eval.Model) (*eval.Corpus, error) { return s.valid, nil }, o, s.watch)
	if m != nil {
		defer m.Close()
	}
	if err != nil {
		return err
	}
	if err := measureTasks(ctx, m, s.tasks, s.o.Tasks, fmt.Sprintf("%s at %s", p.Curve, cacheText(m.Arch)), q, s.watch); err != nil {
		return err
	}
	s.report.Machine = m.MachineName()
	more, err := s.o.About.details(ctx, &s.report, m, s.valid, dir, p.Run, s.model)
	if err != nil {
		return err
	}
	known := m.Described()
	s.untimed = append(s.untimed, untimed{
		name: cacheText(m.Arch), path: dir, same: cacheText(m.Arch), model: known,
		o: eval.LatencyOptions{Batch: s.o.Batch, Context: s.o.Context, PromptLen: min(s.o.Context, promptLen)},
		done: func(l *eval.Latency) error {
			point := s.compared.point(known, q, l)
			s.report.Load = max(s.report.Load, l.Load)
			point.Method, point.Recipe = string(p.Curve.Method), p.Curve.recipeName()
			point.Alpha, point.UptrainTokens = float64(tokens)/float64(s.o.OriginalTokens), tokens
			more.addTo(&point)
			s.report.Points = append(s.report.Points, point)
			return nil
		},
	})
	slog.Info("point", "number", fmt.Sprintf("%d of %d", s.number, s.of), "method", p.Curve.String(), "groups", p.Groups, "uptrain_tokens", tokens, "loss", round(q.Loss))
	return nil
}

// promptLen is the length of the prompts whose prefill is timed.
const promptLen = 128

func round(x float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 4, 64), 64)
	return r
}
