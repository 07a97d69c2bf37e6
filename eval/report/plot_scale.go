package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"gqa/internal/units"

	"gonum.org/v1/plot"
)

// lossScale is an axis of losses around a baseline: linear within about one unit, logarithmic beyond. A single point that
// was never up-trained then does not flatten the differences between those that were.
type lossScale struct{ base, unit float64 }

// lossScale returns a scale whose unit is the median distance from the baseline.
func (r Report) lossScale() lossScale {
	base := r.baseline()
	var distances []float64
	for _, p := range r.Points {
		if p.Loss != base.Loss {
			distances = append(distances, math.Abs(p.Loss-base.Loss))
		}
	}
	if len(distances) == 0 {
		return lossScale{base.Loss, 1}
	}
	slices.Sort(distances)
	return lossScale{base.Loss, distances[len(distances)/2]}
}

// warp returns the position of a loss on the axis, where the baseline is at 0.
func (s lossScale) warp(loss float64) float64 { return math.Asinh((loss - s.base) / s.unit) }

// Ticks marks the baseline by its loss, and round distances from it, each with the perplexity at that place.
func (s lossScale) Ticks(lo, hi float64) []plot.Tick {
	const apart = 0.06 // minimum distance between two labels, as a share of the axis
	ticks := []plot.Tick{{Value: 0, Label: strconv.FormatFloat(s.base, 'f', 3, 64) + perplexityText(s.base)}}
	for _, sign := range []float64{1, -1} {
		last := 0.0
		for _, distance := range roundDistances {
			at := s.warp(s.base + sign*distance)
			if math.Abs(at-last) < apart*(hi-lo) || at < lo || at > hi {
				continue
			}
			ticks = append(ticks, plot.Tick{Value: at, Label: fmt.Sprintf("%+g", sign*distance) + perplexityText(s.base+sign*distance)})
			last = at
		}
	}
	return ticks
}

// perplexityText formats the perplexity of a loss as a remark.
func perplexityText(loss float64) string {
	return " (ppl " + units.Significant(min(math.Exp(loss), math.MaxFloat64)) + ")"
}

// roundDistances are the steps of the loss axis, in nats.
var roundDistances = []float64{
	1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100,
}

// roundTicks marks four to ten round numbers on a linear axis.
type roundTicks struct{}

// Ticks returns the multiples in [lo, hi] of 1, 2 or 5 times a power of ten.
func (roundTicks) Ticks(lo, hi float64) (ticks []plot.Tick) {
	step := math.Pow10(int(math.Floor(math.Log10(hi - lo))))
	switch n := (hi - lo) / step; {
	case n < 2:
		step /= 5
	case n < 4:
		step /= 2
	}
	for i := math.Ceil(lo / step); i*step <= hi; i++ {
		value := i*step + 0 // +0: a value that rounds up to zero is -0
		ticks = append(ticks, plot.Tick{Value: value, Label: units.Significant(value)})
	}
	return ticks
}

// kvTicks marks the cache sizes of the points on an axis of log2 bytes.
func (r Report) kvTicks() plot.Ticker {
	var sizes []int64
	for _, p := range r.Points {
		sizes = append(sizes, p.KVBytesPerToken)
	}
	slices.Sort(sizes)
	return plot.TickerFunc(func(lo, hi float64) (ticks []plot.Tick) {
		const apart = 0.1 // minimum distance between two labels, as a share of the axis
		for _, size := range slices.Compact(sizes) {
			value := math.Log2(float64(size))
			if n := len(ticks); n == 0 || value-ticks[n-1].Value >= apart*(hi-lo) {
				ticks = append(ticks, plot.Tick{Value: value, Label: units.Bytes(size)})
			}
		}
		return ticks
	})
}
