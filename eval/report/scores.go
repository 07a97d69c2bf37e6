package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"gqa/checkpoints"
	"gqa/eval"
	"gqa/internal/file"
)

// ScoresFile is the name of the file with the scores, beside the report's.
const ScoresFile = "scores.json"

// maxScores is larger than the scores of a hundred points in ten metrics on ten thousand items.
const maxScores = 512 << 20

// Scores are the figures of a report's points before they were averaged: for each window or item. With them, two reports can be
// compared in pairs. Their JSON form is the file scores.json.
type Scores struct {
	Version int                    `json:"version"`
	Metrics map[string]MetricItems `json:"metrics"` // by name, those that are means
	points  int                    // that were added
}

// MetricItems are the scores of all points in one metric.
type MetricItems struct {
	// Items identifies the windows or items; see [eval.Figure].
	Items   string      `json:"items"`
	Weights []float32   `json:"weights"` // how much each item counts
	Values  [][]float32 `json:"values"`  // [points][items], in the order of the report's points; null: not measured
}

// Scored is a report with its scores, nil if there are none.
type Scored struct {
	Report
	Scores *Scores
}

// Add adds the figures of the report's next point.
func (s *Scores) Add(figures map[string]eval.Figure) {
	if s.Metrics == nil {
		s.Version, s.Metrics = scoresVersion, map[string]MetricItems{}
	}
	for name, f := range figures {
		weights, values := single(f.Scores.Weights), single(f.Scores.Values)
		if len(values) != len(weights) || !near(mean(values, weights), f.Value) { // not a mean
			continue
		}
		m, ok := s.Metrics[name]
		if !ok {
			m = MetricItems{Items: f.Items, Weights: weights, Values: make([][]float32, s.points)}
		}
		if m.Items == f.Items && slices.Equal(m.Weights, weights) {
			m.Values = append(m.Values, values)
			s.Metrics[name] = m
		}
	}
	s.points++
	for name, m := range s.Metrics {
		if len(m.Values) < s.points {
			m.Values = append(m.Values, nil)
			s.Metrics[name] = m
		}
	}
}

const scoresVersion = 1

// single rounds numbers to float32, which JSON holds in few digits.
func single(x []float64) []float32 {
	var out []float32
	for _, v := range x {
		out = append(out, float32(v))
	}
	return out
}

// Write writes scores.json into a folder, complete or not at all.
func (s *Scores) Write(dir string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("%s: %w", ScoresFile, err)
	}
	return checkpoints.WriteFileAtomic(filepath.Join(dir, ScoresFile), append(data, '\n'), 0o644)
}

// ReadScored reads a report from its folder or from a file, and the scores beside it, if there are any.
func ReadScored(path string) (Scored, error) {
	r, err := Read(path)
	if err != nil {
		return Scored{}, err
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		path = filepath.Dir(path)
	}
	path = filepath.Join(path, ScoresFile)
	data, err := file.ReadMax(path, maxScores)
	if errors.Is(err, fs.ErrNotExist) {
		return Scored{Report: r}, nil
	}
	if err != nil {
		return Scored{}, err
	}
	s := &Scores{}
	if err := json.Unmarshal(data, s); err != nil {
		return Scored{}, fmt.Errorf("%s: not scores: %w", path, plainly(err))
	}
	if err := s.check(r); err != nil {
		return Scored{}, fmt.Errorf("%s: %w", path, err)
	}
	return Scored{r, s}, nil
}

// check returns an error if the scores are not those of a report: their means must be its figures.
func (s *Scores) check(r Report) error {
	if s.Version != scoresVersion {
		return fmt.Errorf("the scores have version %d; this program knows version %d", s.Version, scoresVersion)
	}
	if len(s.Metrics) == 0 {
		return errors.New("the file has no scores")
	}
	for name, m := range s.Metrics {
		if len(m.Values) != len(r.Points) {
			return fmt.Errorf("%s has the scores of %d points, the report beside it has %d: they do not belong together", name, len(m.Values), len(r.Points))
		}
		for i, values := range m.Values {
			if values == nil {
				continue
			}
			if len(values) != len(m.Weights) {
				return fmt.Errorf("%s: %s has %d scores and %d weights", r.Points[i].Name(), name, len(values), len(m.Weights))
			}
			got, want := mean(values, m.Weights), r.Points[i].Metrics[name].Value
			if !near(got, want) {
				return fmt.Errorf("%s: the mean of its scores in %s is %.6g, but the report beside it has %.6g: they do not belong together", r.Points[i].Name(), name, got, want)
			}
		}
	}
	return nil
}

// near reports whether a mean of rounded numbers may be x. It is not if there is none (NaN).
func near(mean, x float64) bool { return math.Abs(mean-x) <= 1e-5*max(1, math.Abs(x)) }

// mean returns the weighted mean, NaN of nothing.
func mean(values, weights []float32) float64 {
	sum, weight := 0.0, 0.0
	for i, x := range values {
		sum, weight = sum+float64(x)*float64(weights[i]), weight+float64(weights[i])
	}
	return sum / weight
}

// items are the scores of one point in one metric, and what identifies the items.
type items struct {
	eval.Scores
	items string
}

// of returns the scores of a point in a metric; they are empty if there are none.
func (s *Scores) of(point int, metric string) (of items) {
	if s == nil || s.Metrics[metric].Values == nil {
		return of
	}
	m := s.Metrics[metric]
	of.items = m.Items
	for i, x := range m.Values[point] {
		of.Values, of.Weights = append(of.Values, float64(x)), append(of.Weights, float64(m.Weights[i]))
	}
	return of
}
