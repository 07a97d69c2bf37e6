package sweep

import (
	"math"
	"path/filepath"
	"testing"

	"gqa/checkpoints/sample"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/internal/data"
	"gqa/internal/weights"
)

// bars are the shares of the mean's damage that a conversion must undo before up-training, by the number of groups: half
// a percent less than it does, and more than the previous row does, so that a method that falls back to a simpler one
// fails. With one group there is nothing to choose: similar heads have no bar.
var bars = []struct {
	convert.Options
	text   bool
	undone map[int]float64
}{
	{Options: convert.Options{Method: convert.Align}, undone: map[int]float64{4: 0.62, 1: 0.39}},
	{Options: convert.Options{Method: convert.Align}, text: true, undone: map[int]float64{4: 0.655, 1: 0.475}},
	{Options: convert.Options{Method: convert.Calibrated}, text: true, undone: map[int]float64{4: 0.89, 1: 0.725}},
	{Options: convert.Options{Method: convert.Calibrated, Grouping: convert.Similar}, text: true, undone: map[int]float64{4: 0.92}},
	{Options: convert.Options{Method: convert.Calibrated, Grouping: convert.Similar, Refine: refineSteps}, text: true, undone: map[int]float64{4: 0.943}},
}

const refineSteps = 12 // of 600, as docs/methods.md has it

// meanLosses are the losses of the mean, to which all bars are relative.
var meanLosses = map[int]float64{4: 4.343, 1: 5.465}

// TestStarts compares conversions of the sample with the bars on thirty windows. docs/methods.md uses a hundred, on which
// they undo 1 to 3% more.
func TestStarts(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 300,000 tokens")
	}
	s := openSample(t)
	whole := s.loss(t, s.model)
	for groups, want := range meanLosses {
		mean := s.start(t, convert.Options{Method: convert.Mean, Goal: convert.Groups(groups)})
		if math.Abs(mean-want) > 0.005 {
			t.Errorf("%d groups by the mean: loss %.4f, want %.3f", groups, mean, want)
		}
		for _, bar := range bars {
			want, ok := bar.undone[groups]
			if !ok {
				continue
			}
			o := bar.Options
			if o.Goal = convert.Groups(groups); bar.text {
				o.Calibration = s.text
			}
			undone := (mean - s.start(t, o)) / (mean - whole)
			t.Logf("%d groups, %s %s, text %v, refine %d: %.1f%% undone", groups, o.Method, o.Grouping, bar.text, o.Refine, 100*undone)
			if undone < want {
				t.Errorf("%d groups, %s %s, text %v, refine %d: %.4f of the damage is undone, want %.3f", groups, o.Method, o.Grouping, bar.text, o.Refine, undone, want)
			}
		}
	}
}

// starting is the sample with the inputs and the data for its conversions.
type starting struct {
	model string
	src   *weights.Source
	text  *calibrate.Data
	valid *data.Dataset
}

func openSample(t *testing.T) starting {
	s := starting{model: filepath.Join(t.TempDir(), "sample")}
	err := sample.Extract(s.model)
	if err == nil {
		s.src, err = weights.Open(s.model, weights.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.src.Close() })
	s.text, err = calibrate.Load(t.Context(), "sample:train", s.model, s.src.Arch, calibrate.Options{Tokens: 32768, Steps: refineSteps})
	if err == nil {
		s.valid, err = data.Load(t.Context(), "sample:val", s.model, s.src.Arch, data.Options{SeqLen: 512, MaxTokens: 30 * 512})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start converts the sample and returns the loss.
func (s starting) start(t *testing.T, o convert.Options) float64 {
	t.Helper()
	p, err := convert.NewPlan(s.src, o)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := p.Run(t.Context(), out, convert.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return s.loss(t, out)
}

func (s starting) loss(t *testing.T, path string) float64 {
	t.Helper()
	m, err := eval.LoadModel(t.Context(), path, eval.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := eval.MeasureQuality(t.Context(), m, s.valid, eval.QualityOptions{SeqLen: 512, MaxWindows: 30})
	if err != nil {
		t.Fatal(err)
	}
	return q.Loss
}
