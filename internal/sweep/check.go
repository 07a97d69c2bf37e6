package sweep

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/configs"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/internal/data"
	"gqa/internal/weights"
)

// check finds every reason not to start that can be found without computing anything, and loads what all points are
// evaluated on.
func (s *sweep) check(ctx context.Context) error {
	model, remove, err := s.source()
	if err != nil {
		return err
	}
	defer remove()
	src, err := weights.Open(model, weights.Options{})
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	defer src.Close()
	if err := s.checkConversions(src); err != nil {
		return err
	}
	if limit := src.Arch.MaxPositions(); limit > 0 && s.o.Context >= limit {
		return fmt.Errorf("context is %d, but the model has %d positions; at most %d can be in the cache of a step", s.o.Context, limit, limit-1)
	}
	if err := src.CheckFinite(ctx, nil); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if s.tasks, err = s.o.Tasks.Load(); err != nil {
		return err
	}
	if len(s.tasks) > 0 {
		if _, err := data.LoadTokenizer(src.Dir, src.Arch.Vocab); err != nil {
			return fmt.Errorf("tasks: %w", err)
		}
	}
	if err := s.loadCorpora(ctx, src); err != nil {
		return err
	}
	return s.describe(src)
}

// source returns the location of the model. The embedded sample is extracted first, and remove deletes it again.
func (s *sweep) source() (path string, remove func(), err error) {
	if s.o.Model != "" {
		return s.o.Model, func() {}, nil
	}
	dir, removeDir, err := checkpoints.TempFolder(filepath.Join(os.TempDir(), "gqa-sweep"))
	if err != nil {
		return "", nil, err
	}
	remove = func() { removeDir() } //nolint:errcheck // the next sweep tries again
	path = filepath.Join(dir, sample.Name)
	if err := sample.Extract(path); err != nil {
		remove()
		return "", nil, err
	}
	return path, remove, nil
}

func (s *sweep) checkConversions(src *weights.Source) error {
	var text *calibrate.Data
	if s.o.Calibration != "" {
		text = &calibrate.Data{}
	}
	for i, c := range s.o.Curves {
		for j, g := range s.o.Groups {
			if slices.Contains(s.o.Curves[:i], c) || slices.Contains(s.o.Groups[:j], g) {
				return fmt.Errorf("%d groups by %s are requested twice", g, c)
			}
			if err := c.check(src, g, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadCorpora cuts both corpora into windows of the recipe's length.
func (s *sweep) loadCorpora(ctx context.Context, src *weights.Source) error {
	length := s.o.Recipe.SeqLen
	if limit := src.Arch.MaxPositions(); limit > 0 && length > limit {
		return fmt.Errorf("recipe: seq_len is %d, but the model has %d positions", length, limit)
	}
	if !src.Arch.Causal {
		return fmt.Errorf("a sweep times decoding, and family %s %w", src.Arch.Family.Name, eval.ErrDecode)
	}
	load := func(what, name string, tokens int) (*data.Dataset, error) {
		corpus, err := data.Load(ctx, name, src.Dir, src.Arch, data.Options{
			SeqLen: length, Seed: s.o.Recipe.Seed, MaxTokens: tokens, TextKey: s.o.Recipe.TextKey,
		})
		if err == nil {
			_, err = data.Windows(corpus.IDs, corpus.Window)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return corpus, nil
	}
	if s.o.Recipe.Steps > 0 {
		if _, err := load("data", s.o.Data, length); err != nil { // only its beginning: the up-trainings read the rest
			return err
		}
	}
	var err error
	if s.valid, err = load("valid", s.o.Valid, reach*s.o.EvalWindows*length); err != nil {
		return err
	}
	s.valid.Spread(s.o.EvalWindows)
	return s.loadText(ctx, src)
}

// reach is how many times as much text is read as is evaluated. The windows are spread over it: neighbours are often of one document, so
// an interval over them would be too narrow.
const reach = 16

// loadText reads the text that conversions use, once for all of them.
func (s *sweep) loadText(ctx context.Context, src *weights.Source) error {
	if s.o.Calibration == "" || !slices.ContainsFunc(s.o.Curves, Curve.reads) {
		return nil
	}
	steps := 0
	for _, c := range s.o.Curves {
		steps = max(steps, c.Refine)
	}
	d, err := calibrate.Load(ctx, s.o.Calibration, src.Dir, src.Arch, calibrate.Options{
		Tokens: s.o.CalibrationTokens, Steps: steps, Seed: s.o.Seed, TextKey: s.o.Recipe.TextKey,
	})
	if err != nil {
		return fmt.Errorf("calibration: %w", err)
	}
	d.Tokens = min(d.Tokens, len(d.IDs))
	s.text = d
	return d.Check(src.Arch)
}

// describe fills in what is known about the model before it runs.
func (s *sweep) describe(src *weights.Source) error {
	parameters, err := weights.Parameters(src.Arch)
	if err != nil {
		return err
	}
	if s.o.OriginalTokens == 0 {
		s.o.OriginalTokens = 20 * parameters
		slog.Warn("the number of tokens that the model was pre-trained on is not given: alpha assumes 20 per parameter", "original_tokens", s.o.OriginalTokens)
	}
	s.report.Model = modelText(src.Dir, src.Arch, parameters)
	s.report.Corpus = s.o.Valid
	s.heads = src.Arch.KVHeads
	return nil
}

// modelText describes a model in a report.
func modelText(dir string, a *configs.Arch, parameters int64) string {
	return fmt.Sprintf("%s (%s, %.4gM parameters, %d heads)", filepath.Base(dir), a.Family.Name, float64(parameters)/1e6, a.Heads)
}
