package eval

// Metric computes a score for every prediction. Its mean over all predictions is reported, with the standard error of
// that mean over windows.
type Metric struct {
	Name   string
	Unit   string // of a score; may be empty
	Better string // whether "higher" or "lower" scores are better; empty: higher
	// Score sets the score of each row: scores [rows], logits [rows, vocabulary], targets [rows]. Rows without a target
	// have target -1, and their scores are ignored. Score must not retain or change logits and targets.
	Score func(scores, logits []float32, targets []int32)
}

// Estimate is a mean with its standard error.
type Estimate struct {
	Value  float64 `json:"value"`
	Stderr float64 `json:"stderr"` // 0 if there is only one window
	N      int     `json:"n"`      // number of predictions
}

// meanScore returns the mean over the rows with a target. There is at least one.
func meanScore(scores []float32, targets []int32) float64 {
	sum, n := 0.0, 0
	for i, target := range targets {
		if target >= 0 {
			sum, n = sum+float64(scores[i]), n+1
		}
	}
	return sum / float64(n)
}

// estimates returns the results of the metrics, or nil if none was requested.
func (t *tally) estimates() map[string]Estimate {
	if len(t.metrics) == 0 {
		return nil
	}
	all := make(map[string]Estimate, len(t.metrics))
	for i, m := range t.o.Metrics {
		s := t.metrics[i]
		all[m.Name] = Estimate{Value: s.mean(), Stderr: s.stderr(), N: int(s.weight)}
	}
	return all
}
