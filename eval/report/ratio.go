package report

import (
	"fmt"
	"math"
	"strconv"
)

// ratio is how many times as large a figure is as the baseline's, with its 95% interval, which is empty if it is not known.
type ratio struct{ value, low, high float64 }

// ratioOf returns the ratio of a metric with a difference; NaN if the baseline's is 0. The interval is that of the difference, all of which
// is taken to be of the larger of the two figures: errors of times grow with them.
func ratioOf(m Metric) ratio {
	base := m.Value - *m.Delta
	if base == 0 {
		return ratio{math.NaN(), math.NaN(), math.NaN()}
	}
	r := ratio{m.Value / base, m.Value / base, m.Value / base}
	switch {
	case m.DeltaCI == nil:
	case m.Value < base:
		r.low, r.high = m.Value/(m.Value-m.DeltaCI[0]), m.Value/(m.Value-m.DeltaCI[1])
	default:
		r.low, r.high = (base+m.DeltaCI[0])/base, (base+m.DeltaCI[1])/base
	}
	return r
}

// inverse returns how many times as large the baseline's figure is.
func (r ratio) inverse() ratio { return ratio{1 / r.value, 1 / r.high, 1 / r.low} }

// noise reports whether the interval is known and includes 1.
func (r ratio) noise() bool { return r.low < r.high && r.low <= 1 && r.high >= 1 }

// number returns "2.5× ± 0.1", or "2.5×" if the interval is not known.
func (r ratio) number() string {
	half := (r.high - r.low) / 2
	if !(half > 0) || math.IsInf(half, 0) {
		digits := 1
		if r.value < 1.05 { // "1.0× slower" says nothing
			digits = 2
		}
		return strconv.FormatFloat(r.value, 'f', digits, 64) + "×"
	}
	digits := min(3, max(1, int(math.Ceil(-math.Log10(2*half)))))
	return fmt.Sprintf("%.*f× ± %.*f", digits, r.value, digits, half)
}

// words returns the ratio in words: "2.5× less", or "the same".
func (r ratio) words(more, less string) string {
	switch {
	case math.IsNaN(r.value):
		return ""
	case r.value == 1:
		return "the same"
	case r.value < 1:
		return r.inverse().number() + " " + less
	}
	return r.number() + " " + more
}
