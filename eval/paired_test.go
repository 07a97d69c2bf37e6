package eval

import (
	"math"
	"math/rand/v2"
	"testing"

	"gqa/internal/data"
)

// The interval of a paired difference covers the true one as often as it says, and is much narrower than the spread of the windows.
func TestMinus(t *testing.T) {
	const runs, windows, truth = 300, 40, 0.02
	r, covered, width := rand.New(rand.NewPCG(3, 4)), 0, 0.0
	for range runs {
		var a, b Scores
		for range windows {
			hard, weight := 2+r.NormFloat64()/2, 500+float64(r.IntN(20))
			a.Values, b.Values = append(a.Values, hard+truth+r.NormFloat64()/50), append(b.Values, hard)
			a.Weights, b.Weights = append(a.Weights, weight), append(b.Weights, weight)
		}
		d, ok := a.Minus(b)
		if !ok || !(d.Low <= d.Mean && d.Mean <= d.High) {
			t.Fatalf("%+v, %v", d, ok)
		}
		if again, _ := a.Minus(b); again != d {
			t.Fatalf("%+v, then %+v", d, again)
		}
		if d.Low <= truth && truth <= d.High {
			covered++
		}
		if stderr, ok := a.Apart(b); !ok || math.Abs((d.High-d.Low)/2/1.96/stderr-1) > 0.15 {
			t.Fatalf("standard error %v, interval %+v", stderr, d)
		}
		width += (d.High - d.Low) / runs
	}
	if share := float64(covered) / runs; share < 0.90 || share > 0.98 {
		t.Errorf("%.3f of the intervals cover the difference, want about 0.95", share)
	}
	if want := 2 * 1.96 / 50 / math.Sqrt(windows); math.Abs(width-want) > 0.1*want {
		t.Errorf("mean width %v, want about %v", width, want)
	}
}

func TestMinusWeighs(t *testing.T) {
	a := Scores{Values: []float64{1, 3}, Weights: []float64{3, 1}}
	b := Scores{Values: []float64{0, 0}, Weights: []float64{3, 1}}
	if d, ok := a.Minus(b); !ok || d.Mean != 1.5 || d.Low != 1 || d.High != 3 {
		t.Errorf("%+v, %v; want 1.5, 1 to 3", d, ok)
	}
	if d, ok := (Scores{Values: []float64{1}, Weights: []float64{2}}).Minus(Scores{Values: []float64{3}, Weights: []float64{2}}); !ok || d.Mean != -2 || !math.IsNaN(d.Low+d.High) {
		t.Errorf("one window: %+v, %v", d, ok)
	}
	for _, other := range []Scores{{}, {Values: []float64{0, 0}, Weights: []float64{1, 3}}, {Values: []float64{0}, Weights: []float64{3}}} {
		if d, ok := a.Minus(other); ok {
			t.Errorf("the difference from %v is %+v", other, d)
		}
		if stderr, ok := a.Apart(other); ok {
			t.Errorf("the standard error of the difference from %v is %v", other, stderr)
		}
	}
	want, _ := a.Minus(b)
	for _, s := range []*Scores{&a, &b} {
		values := s.Values
		s.Values, s.Of = nil, func(index []int) float64 { // the mean
			sum, weight := 0.0, 0.0
			for _, i := range index {
				sum, weight = sum+s.Weights[i]*values[i], weight+s.Weights[i]
			}
			return sum / weight
		}
	}
	if d, ok := a.Minus(b); !ok || d != want {
		t.Errorf("by a function: %+v, %v; want %+v", d, ok, want)
	}
	if _, ok := a.Minus(Scores{Values: []float64{1, 3}, Weights: []float64{3, 1}}); ok {
		t.Error("a difference of a mean from another figure")
	}
	if _, ok := (Scores{}).Minus(Scores{}); ok {
		t.Error("a difference of nothing")
	}
}

// The windows of a figure are identified by all that can make them others.
func TestIdentity(t *testing.T) {
	corpus := func(window int, o data.Objective, ids ...int32) *Corpus {
		return &Corpus{Tokens: &data.Tokens{IDs: ids}, Objective: o, Window: window}
	}
	first := identity(corpus(2, data.NextToken{}, 1, 2, 3, 4, 5), 2)
	if again := identity(corpus(2, data.NextToken{}, 1, 2, 3, 4, 6), 2); again != first {
		t.Error("a token beyond the windows counts")
	}
	for name, other := range map[string]string{
		"a token":   identity(corpus(2, data.NextToken{}, 1, 2, 3, 6), 2),
		"fewer":     identity(corpus(2, data.NextToken{}, 1, 2, 3, 4), 1),
		"longer":    identity(corpus(4, data.NextToken{}, 1, 2, 3, 4), 1),
		"objective": identity(corpus(2, data.Masked{Mask: 1, Seed: 1}, 1, 2, 3, 4), 2),
	} {
		if other == first {
			t.Errorf("another %s does not count", name)
		}
	}
	if identity(corpus(2, data.Masked{Mask: 1, Seed: 1}, 1, 2), 1) == identity(corpus(2, data.Masked{Mask: 1, Seed: 2}, 1, 2), 1) {
		t.Error("the seed of a mask does not count")
	}
}
