package sweep

import (
	"math"

	"gqa/eval"
	"gqa/eval/report"
)

// metrics returns the figures of a point, compared with those of the first, which is the baseline.
func (s *sweep) metrics(q *eval.Quality, l *eval.Latency) map[string]report.Metric {
	all := map[string]report.Metric{}
	for name, f := range figures(q, l) {
		m := report.Metric{Value: f.Value, Stderr: f.Stderr, N: f.N, Unit: f.Unit, Better: f.Better}
		if base, ok := s.baseline[name]; ok {
			delta := f.Value - base.Value
			m.Delta = &delta
			if d, ok := f.Scores.Minus(base.Scores); ok && !math.IsNaN(d.Low) {
				m.DeltaCI = &[2]float64{d.Low, d.High}
			}
		}
		all[name] = m
	}
	if s.baseline == nil {
		s.baseline = figures(q, l)
	}
	return all
}

// figures returns those of quality, and those of latency, of which the error is not known.
func figures(q *eval.Quality, l *eval.Latency) map[string]eval.Figure {
	all := map[string]eval.Figure{}
	for name, f := range q.Figures {
		all[name] = f
	}
	for _, f := range []struct {
		name, unit string
		value      float64
	}{
		{"decode_ms_per_token", "ms", l.DecodeMSPerTok},
		{"prefill_ms", "ms", l.PrefillMS},
		{"kv_bytes_per_token", "bytes", float64(l.KVBytesPerToken)},
	} {
		all[f.name] = eval.Figure{Estimate: eval.Estimate{Value: f.value, N: 1}, Unit: f.unit, Better: report.Lower}
	}
	return all
}
