package eval

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Timing says how long latencies are measured. The zero value is [DefaultTiming].
type Timing struct {
	Rounds  int     // in each round every cell is timed once, in turn; fewer than six do not give 95% intervals
	Seconds float64 // for each cell, in all rounds together; a step is timed at least once in each round
}

// DefaultTiming is how long latencies are measured by default.
var DefaultTiming = Timing{Rounds: 9, Seconds: 2}

// orDefault returns t with defaults for what is 0.
func (t Timing) orDefault() Timing {
	return Timing{cmp.Or(t.Rounds, DefaultTiming.Rounds), cmp.Or(t.Seconds, DefaultTiming.Seconds)}
}

// Rounds are the times of one thing in each of several rounds, in milliseconds: each is a median of that round's.
type Rounds []float64

// Median returns the median of the rounds.
func (r Rounds) Median() float64 { return median(r) }

// Interval returns the 95% interval of the median over rounds: two of the rounds, as far out as needed for the median of the
// distribution that they come from to be between them (Conover, Practical Nonparametric Statistics, 1999, section 3.2). Of fewer than
// six rounds it is the lowest and the highest, which is a narrower interval.
func (r Rounds) Interval() (low, high float64) {
	if len(r) == 0 {
		return 0, 0
	}
	s := slices.Sorted(slices.Values(r))
	out := outside(len(s))
	return s[out], s[len(s)-1-out]
}

// outside returns how many of n numbers may be left out at either end for the rest to enclose the median with a probability of 95%.
func outside(n int) (out int) {
	const tail = 0.025
	term, sum := 1.0, 0.0 // term is the number of ways in which i of n numbers are below the median, divided by 2^n
	for range n {
		term /= 2
	}
	for i := 0; 2*i < n; i++ {
		if sum += term; sum > tail {
			return max(i-1, 0)
		}
		out = i
		term *= float64(n-i) / float64(i+1)
	}
	return out
}

// Ratio is how many times as fast something is as something else, with its 95% interval.
type Ratio struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Resolved reports whether the interval leaves out 1. If it does not, the difference is within the noise of the measurement.
	Resolved bool `json:"resolved"`
}

// Faster returns how many times as fast r is as base, whose rounds were the same: the median over rounds of the ratio within a round,
// so that what slows down a whole round does not count.
func (r Rounds) Faster(base Rounds) Ratio {
	ratios := make(Rounds, len(r))
	for i := range r {
		ratios[i] = base[i] / r[i]
	}
	low, high := ratios.Interval()
	return Ratio{ratios.Median(), low, high, low > 1 || high < 1}
}

// figure returns a time, divided by a number, with its rounds. The standard error is that of a normal distribution with the interval.
func (r Rounds) figure(by int, ms, low, high float64) Figure {
	const normal = 2 * 1.96 // standard deviations
	f := Figure{Estimate: Estimate{ms / float64(by), (high - low) / normal / float64(by), max(1, len(r))}, Unit: "ms", Better: "lower"}
	for _, x := range r {
		f.Scores.Values = append(f.Scores.Values, x/float64(by))
	}
	return f
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	s, n := slices.Sorted(slices.Values(x)), len(x)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// timed is something that is timed in rounds.
type timed struct {
	run    func() error
	warm   int     // runs before those that are timed in a round
	share  float64 // of the seconds
	rounds *Rounds
	free   func() // frees memory that run uses
}

// timeInTurn times everything in each round for its share of the seconds: some runs that are not counted, as what ran before has left
// nothing of it in the processor's caches, then at least one that is.
func timeInTurn(ctx context.Context, all []*timed, t Timing) error {
	seconds := t.Seconds / float64(t.Rounds)
	for range t.Rounds {
		for _, x := range all {
			ms, err := x.time(ctx, time.Duration(x.share*seconds*float64(time.Second)))
			if err != nil {
				return err
			}
			*x.rounds = append(*x.rounds, ms)
		}
	}
	return nil
}

// mostRuns is how many runs are timed in a round at most: more would not make their median more precise.
const mostRuns = 50

// time returns the median time of a run in milliseconds.
func (x *timed) time(ctx context.Context, left time.Duration) (float64, error) {
	var times []float64
	for i := 0; i < x.warm || len(times) == 0 || left > 0 && len(times) < mostRuns; i++ {
		start := time.Now()
		if err := cmp.Or(ctx.Err(), x.run(), ctx.Err()); err != nil {
			return 0, err
		}
		if took := max(time.Since(start), 1); i >= x.warm { // a coarse clock may report zero
			times = append(times, milliseconds(took))
			left -= took
		}
	}
	return median(times), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
