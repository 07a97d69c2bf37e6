package report

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// check returns an error if no evaluation can have measured the report.
func (r Report) check() error {
	if r.Version < 0 || r.Version > Version {
		return fmt.Errorf("the report has version %d; this program knows versions up to %d", r.Version, Version)
	}
	if len(r.Points) == 0 {
		return errors.New("the report holds no points")
	}
	if !(r.Load >= 0) || math.IsInf(r.Load, 1) {
		return fmt.Errorf("load is %v; want a share of at least 0", r.Load)
	}
	if err := r.rules().check(); err != nil {
		return err
	}
	for i, p := range r.Points {
		if err := p.check(); err != nil {
			return fmt.Errorf("points[%d] (%s): %w", i, p.Name(), err)
		}
		if loss, ok := p.Metrics["loss"]; r.Version >= 2 && (!ok || loss.Value != p.Loss) {
			return fmt.Errorf("points[%d] (%s): metrics.loss is missing, or is not the loss", i, p.Name())
		}
		if j := slices.IndexFunc(r.Points[:i], p.same); j >= 0 {
			return fmt.Errorf("points[%d] (%s): the same point as points[%d]", i, p.Name(), j)
		}
		if err := p.checkDeltas(r.baselineOf(p)); err != nil {
			return fmt.Errorf("points[%d] (%s): %w", i, p.Name(), err)
		}
	}
	return nil
}

// checkDeltas returns an error if a difference is not that from the baseline.
func (p Point) checkDeltas(base Point) error {
	for _, name := range slices.Sorted(maps.Keys(p.Metrics)) {
		m := p.Metrics[name]
		other, ok := base.Metrics[name]
		if want := m.Value - other.Value; ok && m.Delta != nil && !near(*m.Delta, want) {
			return fmt.Errorf("metrics: %s: delta is %v, but the value is %v above the baseline's", name, *m.Delta, want)
		}
	}
	return nil
}

// same reports whether two points are the same model measured in the same way.
func (p Point) same(q Point) bool {
	return p.Groups == q.Groups && p.recipe() == q.recipe() && p.Alpha == q.Alpha && p.Batch == q.Batch && p.Context == q.Context
}

func (p Point) check() error {
	if strings.TrimSpace(p.Method) == "" {
		return errors.New("method is empty")
	}
	if l := p.Latent; l != nil && (l.Rank < 1 || l.RopeDim < 1) {
		return fmt.Errorf("latent has kv_lora_rank %d and qk_rope_head_dim %d; want at least 1 of both", l.Rank, l.RopeDim)
	}
	for _, f := range []struct {
		key   string
		value float64
		least float64
	}{
		{"groups", float64(p.Groups), 1},
		{"alpha", p.Alpha, 0},
		{"uptrain_tokens", float64(p.UptrainTokens), 0},
		{"loss", p.Loss, 0},
		{"loss_stderr", p.LossStderr, 0},
		{"perplexity", p.Perplexity, 0},
		{"decode_ms_per_token", p.DecodeMsPerToken, 0},
		{"decode_tokens_per_s", p.DecodeTokensPerS, 0},
		{"prefill_ms", p.PrefillMs, 0},
		{"batch", float64(p.Batch), 1},
		{"context", float64(p.Context), 1},
		{"kv_bytes_per_token", float64(p.KVBytesPerToken), 1},
		{"params", float64(p.Params), 1},
	} {
		if !(f.value >= f.least) || math.IsInf(f.value, 1) {
			return fmt.Errorf("%s is %v; want a finite number of at least %v", f.key, f.value, f.least)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Metrics)) {
		if err := p.Metrics[name].check(); err != nil {
			return fmt.Errorf("metrics: %s: %w", name, err)
		}
	}
	if err := p.checkTwice(); err != nil {
		return err
	}
	return p.checkDetails()
}

// checkTwice returns an error if a figure that is both a key and a metric has two values.
func (p Point) checkTwice() error {
	keys := map[string]float64{"decode_ms_per_token": p.DecodeMsPerToken, "prefill_ms": p.PrefillMs, "kv_bytes_per_token": float64(p.KVBytesPerToken)}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if m, ok := p.Metrics[name]; ok && !near(m.Value, keys[name]) {
			return fmt.Errorf("%s is %v, but metrics.%s is %v", name, keys[name], name, m.Value)
		}
	}
	return nil
}

// check returns an error if a figure cannot be.
func (m Metric) check() error {
	numbers := []float64{m.Value, m.Stderr}
	if m.Delta != nil {
		numbers = append(numbers, *m.Delta)
	}
	if m.DeltaCI != nil {
		numbers = append(numbers, m.DeltaCI[:]...)
	}
	switch {
	case slices.ContainsFunc(numbers, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }):
		return errors.New("a number is not finite")
	case m.Stderr < 0 || m.N < 0:
		return fmt.Errorf("stderr is %v and n %d; want at least 0", m.Stderr, m.N)
	case strings.HasPrefix(m.Unit, "share of ") && (m.Value < 0 || m.Value > 1+1e-9): // means are rounded
		return fmt.Errorf("the value is %v; want 0 to 1, a %s", m.Value, m.Unit)
	case m.Better != Lower && m.Better != Higher:
		return fmt.Errorf("better is %q; want %q or %q", m.Better, Lower, Higher)
	case m.DeltaCI != nil && (m.Delta == nil || m.DeltaCI[0] > m.DeltaCI[1]):
		return fmt.Errorf("delta_ci is %v; want an interval, beside a delta", *m.DeltaCI)
	}
	return nil
}
