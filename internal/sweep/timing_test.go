package sweep

import (
	"testing"

	"gqa/eval"
)

// TestTimer times models that take the same time once, and gives each its latency in order; models that do not fit together are timed
// one after another, without rounds that would be compared in pairs.
func TestTimer(t *testing.T) {
	m, err := eval.LoadModel(t.Context(), sampleModel, eval.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	huge := *m.Described()
	huge.Parameters = 1 << 50
	var got []*eval.Latency
	model := func(same string, described *eval.Model, context int) untimed {
		return untimed{
			path: sampleModel, same: same, model: described, o: eval.LatencyOptions{Batch: 1, Context: context},
			done: func(l *eval.Latency) error { got = append(got, l); return nil },
		}
	}
	timing := timer{timing: eval.Timing{Rounds: 6, Seconds: 1e-9}}
	all := []untimed{model("a", m.Described(), 10), model("b", m.Described(), 20), model("a", m.Described(), 30)}
	if err := timing.time(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0] != got[2] || got[0].Context != 10 || got[1].Context != 20 || len(got[1].DecodeRounds) != 6 {
		t.Errorf("latencies %+v", got)
	}
	all, got = []untimed{model("a", m.Described(), 10), model("b", &huge, 20)}, nil
	if err := timing.time(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].DecodeRounds != nil || got[1].DecodeRounds != nil || !(got[1].DecodeMSPerStep > 0) {
		t.Errorf("latencies apart %+v", got)
	}
}
