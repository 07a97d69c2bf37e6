package report

import (
	"fmt"
	"math"

	"gqa/internal/units"
)

// Limits determine how much worse than the baseline a point may be before the gate fails.
type Limits struct {
	// MaxLossIncrease is in nats per token. Between reports on different corpora, three joint standard errors of the two
	// losses are allowed if that is more.
	MaxLossIncrease float64
	// MaxLatencyIncrease is a share of the baseline's decode time; 0 disables the check of latency.
	MaxLatencyIncrease float64
}

// DefaultLimits allow for noise and for the difference between two machines of the same type, and detect a change that
// costs quality, memory or half the speed.
var DefaultLimits = Limits{MaxLossIncrease: 0.02, MaxLatencyIncrease: 0.5}

// GateError reports why a report did not pass the gate.
type GateError struct {
	// Failures has one line for each failure: point, figure, got, want.
	Failures []string
	// Points is the number of points in the baseline.
	Points int
}

// Error returns the number of failures, which are listed in Failures.
func (e *GateError) Error() string {
	noun := "figures"
	if len(e.Failures) == 1 {
		noun = "figure"
	}
	return fmt.Sprintf("%d %s of the baseline's %d points not reached", len(e.Failures), noun, e.Points)
}

// Gate compares a report with an earlier one, point by point. The report must have every point of the baseline: the same
// groups and recipe, with the same alpha or, if there is none, one that was also up-trained (or also not). Its loss must
// not rise by more than the limit (see Limits), its KV bytes per token must not rise at all, and its decode time must not
// rise by more than the limit. Points that only the report has are ignored. The error is a *GateError, or describes what
// is wrong with a report or a limit.
func Gate(report, baseline Report, limits Limits) error {
	if !(limits.MaxLossIncrease >= 0 && limits.MaxLatencyIncrease >= 0) { // NaN too
		return fmt.Errorf("a limit of the gate is below 0: loss %v, latency %v", limits.MaxLossIncrease, limits.MaxLatencyIncrease)
	}
	if err := baseline.check(); err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	if err := report.check(); err != nil {
		return err
	}
	var failures []string
	for _, want := range baseline.Points {
		failures = append(failures, report.compare(want, limits, report.Corpus == baseline.Corpus)...)
	}
	if len(failures) > 0 {
		return &GateError{failures, len(baseline.Points)}
	}
	return nil
}

// compare finds the report's point for a point of the baseline and reports where it is worse.
func (r Report) compare(want Point, limits Limits, sameCorpus bool) (failures []string) {
	got, ok := r.match(want)
	if !ok {
		return []string{want.Name() + ": the report has no such point"}
	}
	fail := func(format string, args ...any) {
		failures = append(failures, want.Name()+": "+fmt.Sprintf(format, args...))
	}
	if most := want.Loss + limits.lossRise(got, want, sameCorpus); got.Loss > most {
		fail("loss: got %.4f, want at most %.4f (baseline %.4f)", got.Loss, most, want.Loss)
	}
	if got.KVBytesPerToken > want.KVBytesPerToken {
		fail("kv_bytes_per_token: got %d, want at most %d", got.KVBytesPerToken, want.KVBytesPerToken)
	}
	if limits.MaxLatencyIncrease == 0 || want.DecodeMsPerToken == 0 {
		return failures
	}
	if got.Batch != want.Batch || got.Context != want.Context {
		fail("decode_ms_per_token: measured at batch %d, context %d; want %d, %d, as the baseline", got.Batch, got.Context, want.Batch, want.Context)
	} else if most := want.DecodeMsPerToken * (1 + limits.MaxLatencyIncrease); got.DecodeMsPerToken > most || got.DecodeMsPerToken == 0 {
		fail("decode_ms_per_token: got %s, want at most %s (baseline %s)", measured(got.DecodeMsPerToken), units.Significant(most), units.Significant(want.DecodeMsPerToken))
	}
	return failures
}

// lossRise returns how much a point's loss may exceed the baseline's. On the same corpus both models are scored on the
// same windows, so the spread between windows, which the standard errors measure, is common to both losses and adds no
// noise to their difference.
func (l Limits) lossRise(got, want Point, sameCorpus bool) float64 {
	if sameCorpus {
		return l.MaxLossIncrease
	}
	return max(l.MaxLossIncrease, 3*math.Hypot(got.LossStderr, want.LossStderr))
}

// match finds the point to compare want with: the most similar of those with its groups and recipe that are up-trained,
// or not, like want.
func (r Report) match(want Point) (best Point, ok bool) {
	likeness := 0
	for _, p := range r.Points {
		if p.Groups != want.Groups || p.recipe() != want.recipe() || (p.Alpha > 0) != (want.Alpha > 0) {
			continue
		}
		alike := 1
		if p.Alpha == want.Alpha {
			alike += 2
		}
		if p.Batch == want.Batch && p.Context == want.Context {
			alike++
		}
		if alike > likeness {
			best, likeness, ok = p, alike, true
		}
	}
	return best, ok
}
