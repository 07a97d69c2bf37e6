package eval

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Scores are a figure of each window of a corpus, in order, and how much the windows count: their number of predictions or of bytes.
// Or they are a time in each round of a measurement, of which the median counts, and Weights is nil.
type Scores struct{ Values, Weights []float64 }

// Difference is how much larger a figure is than another model's on the same windows, with its 95% interval. The interval is NaN if
// there are fewer than two windows.
type Difference struct{ Mean, Low, High float64 }

// Numbers of the bootstrap: of samples, and the share of them below and above the interval.
const (
	samples = 4000
	tail    = 0.025
)

// Minus returns the difference of two models' figures; false if they are not of the same windows. The windows are paired, so what makes
// one harder than another for both models does not widen the interval. The bounds are quantiles of the difference in
// samples of as many windows, drawn with replacement (the percentile bootstrap; Efron and Tibshirani, An Introduction to the
// Bootstrap, 1993, section 13.3). They are the same each time.
func (s Scores) Minus(base Scores) (d Difference, ok bool) {
	n := len(s.Values)
	if n == 0 || len(base.Values) != n || !slices.Equal(s.Weights, base.Weights) {
		return Difference{}, false
	}
	if s.Weights == nil {
		return s.minusMedian(base), true
	}
	apart := make([]float64, n)
	for i, x := range s.Values {
		apart[i] = s.Weights[i] * (x - base.Values[i])
	}
	mean := func(index func(i int) int) float64 {
		sum, weight := 0.0, 0.0
		for i := range n {
			at := index(i)
			sum, weight = sum+apart[at], weight+s.Weights[at]
		}
		return sum / weight
	}
	d = Difference{mean(func(i int) int { return i }), math.NaN(), math.NaN()}
	if n < 2 {
		return d, true
	}
	r, means := rand.New(rand.NewPCG(1, 2)), make([]float64, samples)
	for i := range means {
		means[i] = mean(func(int) int { return r.IntN(n) })
	}
	slices.Sort(means)
	const below = samples * tail
	d.Low, d.High = means[int(below)-1], means[samples-int(below)]
	return d, true
}

// minusMedian returns the median difference within a round, with the interval of [Rounds].
func (s Scores) minusMedian(base Scores) Difference {
	apart := make(Rounds, len(s.Values))
	for i, x := range s.Values {
		apart[i] = x - base.Values[i]
	}
	low, high := apart.Interval()
	return Difference{apart.Median(), low, high}
}

// Figure is a mean over windows. Better is "lower" or "higher".
type Figure struct {
	Estimate
	Unit, Better string
	Scores       Scores
}

// series is a mean over windows that keeps their values.
type series struct {
	meanOf
	Scores
}

func (s *series) add(x, weight float64) {
	s.meanOf.add(x, weight)
	s.Values, s.Weights = append(s.Values, x), append(s.Weights, weight)
}

func (s *series) figure(unit, better string) Figure {
	return Figure{Estimate{Value: s.mean(), Stderr: s.stderr(), N: int(s.weight)}, unit, better, s.Scores}
}
