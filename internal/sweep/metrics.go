package sweep

import (
	"maps"
	"math"

	"gqa/eval"
	"gqa/eval/report"
)

// comparison compares the figures of models with those of the first.
type comparison struct {
	baseline map[string]eval.Figure // nil until the first is measured
	scores   report.Scores
	groups   int   // KV heads of the first
	bytes    int64 // that these take for a token
}

// metrics returns the figures of a model.
func (c *comparison) metrics(q *eval.Quality, l *eval.Latency) map[string]report.Metric {
	all, measured := map[string]report.Metric{}, figures(q, l)
	for name, f := range measured {
		m := report.Metric{Value: f.Value, Stderr: f.Stderr, N: f.N, Unit: f.Unit, Better: f.Better}
		if base, ok := c.baseline[name]; ok {
			delta := f.Value - base.Value
			m.Delta = &delta
			if d, ok := f.Scores.Minus(base.Scores); ok && !math.IsNaN(d.Low) {
				m.DeltaCI = &[2]float64{min(d.Low, delta), max(d.High, delta)} // a difference of medians is not quite the median difference
			}
		}
		all[name] = m
	}
	c.scores.Add(measured)
	if c.baseline == nil {
		c.baseline = measured
	}
	return all
}

// figures returns those of quality and of latency.
func figures(q *eval.Quality, l *eval.Latency) map[string]eval.Figure {
	all := l.Figures()
	maps.Copy(all, q.Figures)
	return all
}

// point returns a point with what was measured; how it was made is for the caller to fill in.
func (c *comparison) point(m *eval.Model, q *eval.Quality, l *eval.Latency) report.Point {
	if c.baseline == nil {
		c.groups, c.bytes = m.Arch.KVHeads, l.KVBytesPerToken
	}
	p := report.Point{
		Groups: m.Arch.KVHeads, Loss: q.Loss, LossStderr: q.LossStderr, Perplexity: q.Perplexity,
		DecodeMsPerToken: l.DecodeMSPerTok, DecodeTokensPerS: l.TokensPerS, PrefillMs: l.PrefillMS, Batch: l.Batch, Context: l.Context,
		KVBytesPerToken: l.KVBytesPerToken, Params: m.Parameters, Metrics: c.metrics(q, l),
	}
	if m.Arch.IsLatent() {
		rope := m.Arch.Latent.RopeDim // ranks may differ from layer to layer
		p.Latent = &report.Latent{Rank: int(math.Round(float64(m.Arch.KVBytesPerToken(1))/float64(m.Arch.Layers))) - rope, RopeDim: rope}
		p.Groups = max(1, int(math.Round(float64(c.groups)*float64(l.KVBytesPerToken)/float64(c.bytes))))
	}
	return p
}

// write writes a report of the models into dir, with their scores.
func (c *comparison) write(r report.Report, dir string) error {
	if err := r.Write(dir); err != nil {
		return err
	}
	return c.scores.Write(dir)
}
