package eval

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Scores are a figure of each window of a corpus, in order, and how much the windows count: their number of predictions or of bytes.
// Or they are a time in each round of a measurement, of which the median counts, and Weights is nil.
type Scores struct {
	Values, Weights []float64
	// Of returns the figure of the windows with these indices, if that is not a mean of values. Values is then nil.
	Of func(index []int) float64
}

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
	n := max(len(s.Weights), len(s.Values))
	if n == 0 || len(s.Values) != len(base.Values) || !slices.Equal(s.Weights, base.Weights) || (s.Of == nil) != (base.Of == nil) {
		return Difference{}, false
	}
	if s.Weights == nil {
		return s.minusMedian(base), true
	}
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	d = Difference{s.apart(base, index), math.NaN(), math.NaN()}
	if n < 2 {
		return d, true
	}
	r, found := rand.New(rand.NewPCG(1, 2)), make([]float64, samples)
	for i := range found {
		for j := range index {
			index[j] = r.IntN(n)
		}
		found[i] = s.apart(base, index)
	}
	slices.Sort(found)
	const below = samples * tail
	d.Low, d.High = found[int(below)-1], found[samples-int(below)]
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

// apart returns the difference of two models' figures of the windows with these indices.
func (s Scores) apart(base Scores, index []int) float64 {
	if s.Of != nil {
		return s.Of(index) - base.Of(index)
	}
	sum, weight := 0.0, 0.0
	for _, i := range index {
		sum, weight = sum+s.Weights[i]*(s.Values[i]-base.Values[i]), weight+s.Weights[i]
	}
	return sum / weight
}

// Apart returns the standard error of the difference of two models' figures, with their windows in pairs; false if they are not of the
// same windows, of fewer than two, or no means.
func (s Scores) Apart(base Scores) (stderr float64, ok bool) {
	if len(s.Values) < 2 || s.Weights == nil || !slices.Equal(s.Weights, base.Weights) {
		return 0, false
	}
	var apart meanOf
	for i, x := range s.Values {
		apart.add(x-base.Values[i], s.Weights[i])
	}
	return apart.stderr(), true
}

// Figure is a mean over windows or items. Better is "lower" or "higher". Items identifies them, in their order: figures of models can
// be compared in pairs if it is the same.
type Figure struct {
	Estimate
	Unit, Better string
	Scores       Scores
	Items        string
}

// identity identifies the first windows of a corpus by their tokens and by what is predicted of them.
func identity(d *Corpus, windows int) string {
	h := sha256.New()
	fmt.Fprintf(h, "%T %+v, windows of %d\n", d.Objective, d.Objective, d.Window)
	for i := range windows {
		_ = binary.Write(h, binary.LittleEndian, d.Read(i*d.Window, (i+1)*d.Window)) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
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
	return Figure{Estimate: Estimate{Value: s.mean(), Stderr: s.stderr(), N: int(s.weight)}, Unit: unit, Better: better, Scores: s.Scores}
}
