package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"gqa/checkpoints/sample"
	"gqa/eval"
)

// placements is how many choices of windows are looked at.
const placements = 60

// coverage compares ways to choose some of a corpus's windows. For each it prints the half width of the 95% interval of the difference
// between a model and the sample, how often the interval holds the difference on the whole corpus, and how far it is off (root mean
// square).
func (w windows) coverage(ctx context.Context, dir, model string, out io.Writer) error {
	original := filepath.Join(dir, "sample")
	if err := sample.Extract(original); err != nil {
		return err
	}
	w.count = 0
	base, err := w.measure(ctx, original)
	if err != nil {
		return err
	}
	m, err := w.measure(ctx, model)
	if err != nil {
		return err
	}
	a, b := m.figures["loss"].Scores, base.figures["loss"].Scores
	whole, _ := a.Minus(b)
	all := len(a.Values)
	fmt.Fprintf(out, "%s: +%.4f nats on all %d windows\n", model, whole.Mean, all)
	for _, n := range []int{40, 80, 120, 160} {
		for _, way := range []struct {
			name  string
			index func(i, place int) int
		}{
			{"neighbours", func(i, place int) int { return i + place*(all-n)/(placements-1) }},
			{"spread", func(i, place int) int { return (i*placements + place) * all / (n * placements) }},
		} {
			var width, held, square float64
			for place := range placements {
				choose := func(i int) int { return way.index(i, place) }
				d, _ := chosen(a, n, choose).Minus(chosen(b, n, choose))
				width += (d.High - d.Low) / 2 / placements
				square += (d.Mean - whole.Mean) * (d.Mean - whole.Mean) / placements
				if d.Low <= whole.Mean && whole.Mean <= d.High {
					held += 1. / placements
				}
			}
			fmt.Fprintf(out, "  %3d windows, %-10s  ± %.4f, holds the difference in %2.0f%%, off by %.4f\n", n, way.name, width, 100*held, math.Sqrt(square))
		}
	}
	return nil
}

// chosen returns n of the scores.
func chosen(s eval.Scores, n int, index func(i int) int) (some eval.Scores) {
	for i := range n {
		some.Values = append(some.Values, s.Values[index(i)])
		some.Weights = append(some.Weights, s.Weights[index(i)])
	}
	return some
}
