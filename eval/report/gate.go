package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Limits say how much worse than the baseline a figure may be before the gate fails.
type Limits struct {
	// Tolerances are allowances by the name of a metric, in its unit. The other metrics have [DefaultTolerance].
	Tolerances map[string]float64
	// MaxLatencyIncrease is an allowance for times, as a share of the baseline's; 0: times are not compared.
	MaxLatencyIncrease float64
	// AllowOtherModel and AllowOtherCorpus let reports of different models, or on different windows or items, be compared.
	AllowOtherModel, AllowOtherCorpus bool
}

// DefaultLimits allow for what changes from one up-training to the next, and for half the speed on a busy machine. docs/ci.md has the
// measurements.
var DefaultLimits = Limits{MaxLatencyIncrease: 0.5}

// DefaultTolerance returns the allowance for a metric of the baseline. That for an up-trained point covers what changes if the
// up-training reads its data in another order: 160 steps on the sample were measured (docs/ci.md).
func DefaultTolerance(m Metric, uptrained bool) float64 {
	value := math.Abs(m.Value)
	exact, trained := 0.01*value, 0.05*value
	switch m.Unit {
	case "bytes":
		return 0
	case "nats/token", "bits/byte":
		exact = 0.005 * value
	case "share of tokens":
		exact, trained = 0.005, 0.03
	case "share of items":
		exact, trained = 0.01, 0.1
	}
	if uptrained {
		return trained
	}
	return exact
}

// Verdict is what the gate found.
type Verdict struct {
	Points int     // of the baseline
	Checks []Check // in the order of the baseline's points, by the names of the metrics
	Notes  []string
}

// Check is the comparison of one figure with the baseline's.
type Check struct {
	Point, Metric string
	Got, Want     Metric
	Tolerance     float64
	// Low and High are the interval of Got - Want. All intervals of a verdict hold together in 95 of 100 cases. They are NaN if the
	// error is not known: then the tolerance alone decides.
	Low, High float64
	Failure   string // one line: point, figure, got, want; empty if the check passed
}

// Failures returns a line for each check that failed.
func (v Verdict) Failures() (lines []string) {
	for _, c := range v.Checks {
		if c.Failure != "" {
			lines = append(lines, c.Failure)
		}
	}
	return lines
}

// Err returns a *GateError if a check failed.
func (v Verdict) Err() error {
	if failures := v.Failures(); len(failures) > 0 {
		return &GateError{failures, v.Points}
	}
	return nil
}

// GateError reports that a report did not pass the gate.
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

// OtherError reports that a report is of another model, or on another corpus, than the baseline, and therefore is not compared.
type OtherError struct {
	What      string // Model or Corpus
	Got, Want string
}

// Values of OtherError.What.
const (
	Model  = "model"
	Corpus = "corpus"
)

// Error says what differs.
func (e OtherError) Error() string {
	return fmt.Sprintf("the report is of the %s %s, the baseline of %s", e.What, e.Got, e.Want)
}

// Gate compares a report with an earlier one, figure by figure. The report must have every point of the baseline: the same groups and
// recipe, with the same alpha or, if there is none, one that was also up-trained (or also not). Points and metrics that only the report
// has are ignored. A figure fails if it is worse by more than the tolerance and, where the error of the difference is known, its
// interval excludes zero. The difference is of the windows or items in pairs if both reports have scores. Times are compared on the same
// machine only. The error describes what is wrong with a report or a limit, or is an OtherError.
func Gate(report, baseline Scored, limits Limits) (Verdict, error) {
	if err := limits.check(baseline.Report); err != nil {
		return Verdict{}, err
	}
	if err := baseline.check(); err != nil {
		return Verdict{}, fmt.Errorf("baseline: %w", err)
	}
	if err := report.check(); err != nil {
		return Verdict{}, err
	}
	if report.Model != baseline.Model && !limits.AllowOtherModel {
		return Verdict{}, OtherError{Model, report.Model, baseline.Model}
	}
	g := &gating{report: report, baseline: baseline, limits: limits}
	g.sameCorpus = report.Corpus == baseline.Corpus || report.Scores.sharesItems(baseline.Scores)
	for i := range baseline.Points {
		if err := g.comparePoint(i); err != nil {
			return Verdict{}, err
		}
	}
	return g.verdict(), nil
}

// check returns an error about a limit that is not one, or that no point of the baseline has a metric for.
func (l Limits) check(baseline Report) error {
	if !(l.MaxLatencyIncrease >= 0) { // NaN too
		return fmt.Errorf("the limit for times is %v; want at least 0", l.MaxLatencyIncrease)
	}
	known := map[string]bool{}
	for _, p := range baseline.Points {
		for name, m := range p.figures() {
			known[name] = known[name] || !m.timed()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Tolerances)) {
		if !(l.Tolerances[name] >= 0) {
			return fmt.Errorf("the tolerance for %s is %v; want at least 0", name, l.Tolerances[name])
		}
		if !known[name] {
			return fmt.Errorf("there is a tolerance for %q, but the baseline has no such metric; it has %s", name, strings.Join(trueKeys(known), ", "))
		}
	}
	return nil
}

func trueKeys(set map[string]bool) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] {
			names = append(names, name)
		}
	}
	return names
}

// isUptrained reports whether the point was up-trained, also if it is not known for what share of the original tokens.
func (p Point) isUptrained() bool { return p.Alpha > 0 || p.UptrainTokens > 0 }

// match finds the point to compare want with: the most similar of those with its groups and recipe that are up-trained,
// or not, like want. It returns -1 if there is none.
func (r Report) match(want Point) int {
	likeness, best := 0, -1
	for i, p := range r.Points {
		if p.Groups != want.Groups || p.recipe() != want.recipe() || p.isUptrained() != want.isUptrained() {
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
			best, likeness = i, alike
		}
	}
	return best
}
