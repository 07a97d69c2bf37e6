package sweep

import (
	"fmt"
	"path/filepath"
	"testing"

	"gqa/checkpoints"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/internal/objective"
	"gqa/internal/stream"
	"gqa/internal/weights"
)

// TestStarts holds conversions of the sample to how much of the mean's damage they undo as they start, on thirty windows here: it is 1
// to 3% more on the hundred of docs/methods.md. Refining is brief.
func TestStarts(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 300,000 tokens")
	}
	dir := t.TempDir()
	sample := filepath.Join(dir, "sample")
	if err := checkpoints.ExtractSample(sample); err != nil {
		t.Fatal(err)
	}
	src, err := weights.Open(sample, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	const tokens = 32768
	data, err := calibrate.Load(t.Context(), "sample:train", sample, src.Arch, calibrate.Options{Tokens: tokens, Steps: 40})
	if err != nil {
		t.Fatal(err)
	}
	valid, err := objective.Load(t.Context(), "sample:val", sample, src.Arch, objective.Options{SeqLen: 512, Options: stream.Options{Max: 30 * 512}})
	if err != nil {
		t.Fatal(err)
	}
	loss := func(path string) float64 {
		m, err := eval.LoadModel(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		q, err := eval.MeasureObjective(t.Context(), m, valid, eval.QualityOptions{SeqLen: 512, MaxWindows: 30})
		if err != nil {
			t.Fatal(err)
		}
		return q.Loss
	}
	starts := []convert.Options{
		{Method: convert.Mean},
		{Method: convert.Align},
		{Method: convert.Align, Calibration: data},
		{Method: convert.Calibrated, Calibration: data},
		{Method: convert.Calibrated, Grouping: convert.Similar, Calibration: data},
		{Method: convert.Calibrated, Grouping: convert.Similar, Calibration: data, Refine: 40},
	}
	whole := loss(sample)
	for groups, bars := range map[int][]float64{4: {0, 0.62, 0.655, 0.89, 0.92, 0.97}, 1: {0, 0.39, 0.475, 0.725, 0.725, 0.84}} {
		var mean float64
		for i, o := range starts {
			o.Goal = convert.Groups(groups)
			p, err := convert.NewPlan(src, o)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, fmt.Sprint(groups, "-", i))
			if _, err := p.Run(t.Context(), out, convert.RunOptions{}); err != nil {
				t.Fatal(err)
			}
			now := loss(out)
			if i == 0 {
				mean = now
			}
			undone := (mean - now) / (mean - whole)
			t.Logf("%d groups, %s %s, text %v, refine %d: loss %.4f, %.1f%% undone", groups, o.Method, o.Grouping, o.Calibration != nil, o.Refine, now, 100*undone)
			if undone < bars[i] {
				t.Errorf("%d groups, start %d: %.3f of the damage is undone, want %.2f", groups, i, undone, bars[i])
			}
		}
	}
}
