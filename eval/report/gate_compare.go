package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"gqa/internal/units"
)

// gating is a comparison of two reports in progress.
type gating struct {
	report, baseline Scored
	limits           Limits
	sameCorpus       bool
	checks           []*comparing
	notes            []string
}

// comparing is a check in progress.
type comparing struct {
	Check
	worse  float64 // how much worse the figure is
	stderr float64 // of the difference; NaN if it is not known
	free   float64 // degrees of freedom of stderr
	reason string  // why the check fails whatever the figures are
}

// figures returns the metrics of a point. A point of version 1 has those that are its keys.
func (p Point) figures() map[string]Metric {
	if p.Metrics != nil {
		return p.Metrics
	}
	return map[string]Metric{
		"loss":                {Value: p.Loss, Stderr: p.LossStderr, Unit: "nats/token", Better: Lower},
		"decode_ms_per_token": {Value: p.DecodeMsPerToken, Unit: "ms", Better: Lower},
		"kv_bytes_per_token":  {Value: float64(p.KVBytesPerToken), Unit: "bytes", Better: Lower},
	}
}

// timed reports whether a figure depends on the machine.
func (m Metric) timed() bool {
	return m.Unit == "ms" || m.Unit == "s" || strings.HasSuffix(m.Unit, "/s")
}

// ofTokens reports whether a figure is a mean over the tokens or bytes of the corpus, of which there are many.
func (m Metric) ofTokens() bool {
	return slices.Contains([]string{"nats/token", "bits/byte", "share of tokens"}, m.Unit)
}

// comparePoint compares a point of the baseline with the report's.
func (g *gating) comparePoint(i int) error {
	want := g.baseline.Points[i]
	j := g.report.match(want)
	if j < 0 {
		g.fail(Check{Point: want.Name()}, "the report has no such point")
		return nil
	}
	got := g.report.Points[j]
	figures := got.figures()
	for _, name := range slices.Sorted(maps.Keys(want.figures())) {
		c := Check{Point: want.Name(), Metric: name, Want: want.figures()[name]}
		figure, ok := figures[name]
		switch c.Got = figure; {
		case ok && (figure.Unit != c.Want.Unit || figure.Better != c.Want.Better):
			g.fail(c, fmt.Sprintf("the report has it in %q, %s is better; want %q, %s, as the baseline", figure.Unit, figure.Better, c.Want.Unit, c.Want.Better))
		case c.Want.timed():
			g.compareTime(c, got, want, ok)
		case !ok:
			g.fail(c, "the report has no such metric")
		default:
			if err := g.compare(c, j, i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *gating) fail(c Check, reason string) {
	g.checks = append(g.checks, &comparing{Check: c, reason: reason, stderr: math.NaN()})
}

// note adds a note that is not there yet.
func (g *gating) note(text string) {
	if !slices.Contains(g.notes, text) {
		g.notes = append(g.notes, text)
	}
}

// muchLoad is the load beside which times say little.
const muchLoad = 0.1

// compareTime compares a figure that depends on the machine. One that the baseline lacks is 0.
func (g *gating) compareTime(c Check, got, want Point, ok bool) {
	switch {
	case g.limits.MaxLatencyIncrease == 0 || c.Want.Value == 0:
		return
	case g.report.Machine != g.baseline.Machine:
		g.note(fmt.Sprintf("times are not compared: the report is from the machine %s, the baseline from %s", g.report.Machine, g.baseline.Machine))
		return
	case max(g.report.Load, g.baseline.Load) > muchLoad:
		g.note(fmt.Sprintf("times are not compared: others used %.0f%% of the processors' time while those of the report were measured, and %.0f%% with the baseline's", 100*g.report.Load, 100*g.baseline.Load))
		return
	case !ok || c.Got.Value == 0:
		g.fail(c, "the report has no such metric")
		return
	case got.Batch != want.Batch || got.Context != want.Context:
		g.fail(c, fmt.Sprintf("measured at batch %d, context %d; want %d, %d, as the baseline", got.Batch, got.Context, want.Batch, want.Context))
		return
	}
	c.Tolerance = g.limits.MaxLatencyIncrease * c.Want.Value
	g.add(c, unpaired(c), math.Inf(1))
}

// compare compares a figure of point i of the report with point j's of the baseline.
func (g *gating) compare(c Check, i, j int) error {
	c.Tolerance = DefaultTolerance(c.Want, g.baseline.Points[j].isUptrained())
	if t, ok := g.limits.Tolerances[c.Metric]; ok {
		c.Tolerance = t
	}
	ours, theirs := g.report.Scores.of(i, c.Metric), g.baseline.Scores.of(j, c.Metric)
	same := g.sameItems(c, ours, theirs)
	if !same && !g.limits.AllowOtherCorpus {
		return g.otherCorpus(c, ours, theirs)
	}
	stderr, paired := ours.Apart(theirs.Scores)
	switch {
	case same && paired:
		g.add(c, stderr, float64(len(ours.Values)-1))
	case c.Got.Stderr == 0 && c.Want.Stderr == 0: // exact
		g.add(c, math.NaN(), 0)
	case same && c.Want.ofTokens():
		g.note(fmt.Sprintf("there is no %s beside %s, so no interval of losses and the like: the tolerance alone decides", ScoresFile, g.unscored()))
		g.add(c, math.NaN(), 0)
	default:
		g.note("some intervals are those of two independent means, which are wider than those of pairs: the items are others, or their scores are not known")
		g.add(c, unpaired(c), math.Inf(1))
	}
	return nil
}

// unscored says which report lacks scores.
func (g *gating) unscored() string {
	switch {
	case g.report.Scores == nil && g.baseline.Scores == nil:
		return "either report"
	case g.report.Scores == nil:
		return "the report"
	}
	return "the baseline"
}

// sameItems reports whether a figure is of the same windows or items in both reports.
func (g *gating) sameItems(c Check, ours, theirs items) bool {
	if ours.Values != nil && theirs.Values != nil {
		return ours.items == theirs.items
	}
	return g.sameCorpus && (c.Got.N == c.Want.N || c.Got.N == 0 || c.Want.N == 0) // 0 in version 1
}

// otherCorpus says how the corpora differ.
func (g *gating) otherCorpus(c Check, ours, theirs items) error {
	got, want := g.report.Corpus, g.baseline.Corpus
	if got == want {
		got = fmt.Sprintf("%s with other windows or items (%s: n %d, %s)", got, c.Metric, c.Got.N, cmp.Or(ours.items, "not known"))
		want = fmt.Sprintf("%s (n %d, %s)", want, c.Want.N, cmp.Or(theirs.items, "not known"))
	}
	return OtherError{Corpus, got, want}
}

// sharesItems reports whether some figure of both is of the same items.
func (s *Scores) sharesItems(other *Scores) bool {
	if s == nil || other == nil {
		return false
	}
	for name, m := range s.Metrics {
		if o, ok := other.Metrics[name]; ok && o.Items == m.Items && m.Items != "" {
			return true
		}
	}
	return false
}

// unpaired returns the standard error of the difference of two independent figures; NaN if neither's is known.
func unpaired(c Check) float64 {
	if c.Got.Stderr == 0 && c.Want.Stderr == 0 {
		return math.NaN()
	}
	return math.Hypot(c.Got.Stderr, c.Want.Stderr)
}

func (g *gating) add(c Check, stderr, free float64) {
	worse := c.Got.Value - c.Want.Value
	if c.Want.Better == Higher {
		worse = -worse
	}
	g.checks = append(g.checks, &comparing{Check: c, worse: worse, stderr: stderr, free: free})
}

// verdict decides each check. With n intervals each is of the level 1 - 0.05/n, so that all hold together at 0.95 (Bonferroni).
func (g *gating) verdict() Verdict {
	n := 0
	for _, c := range g.checks {
		if !math.IsNaN(c.stderr) {
			n++
		}
	}
	v := Verdict{Points: len(g.baseline.Points), Notes: g.notes}
	for _, c := range g.checks {
		c.decide(1 - 0.05/2/float64(max(n, 1)))
		v.Checks = append(v.Checks, c.Check)
	}
	return v
}

// decide says whether the check fails. The interval's bounds are the quantiles p and 1-p of Student's distribution.
func (c *comparing) decide(p float64) {
	half := c.stderr
	if half > 0 {
		half *= quantile(p, c.free)
	}
	delta := c.Got.Value - c.Want.Value
	c.Low, c.High = delta-half, delta+half
	switch {
	case c.reason != "" && c.Metric == "":
		c.Failure = c.Point + ": " + c.reason
	case c.reason != "":
		c.Failure = fmt.Sprintf("%s: %s: %s", c.Point, c.Metric, c.reason)
	case c.worse > c.Tolerance && !(c.worse <= half):
		c.Failure = fmt.Sprintf("%s: %s: %s", c.Point, c.Metric, c.text())
	}
}

func quantile(p, free float64) float64 {
	if math.IsInf(free, 1) {
		return distuv.UnitNormal.Quantile(p)
	}
	return distuv.StudentsT{Sigma: 1, Nu: free}.Quantile(p)
}

// text says what was found and what was wanted: "got 2.5210, want at most 2.5100 (baseline 2.5000); difference +0.0210 (0.0150 to 0.0270)".
func (c Check) text() string {
	bound, most := c.Want.Value+c.Tolerance, "most"
	if c.Want.Better == Higher {
		bound, most = c.Want.Value-c.Tolerance, "least"
	}
	text := fmt.Sprintf("got %s, want at %s %s (baseline %s)", c.format(c.Got.Value), most, c.format(bound), c.format(c.Want.Value))
	if !math.IsNaN(c.Low) {
		text += fmt.Sprintf("; difference %s", c.difference())
	}
	return text
}

// difference returns the difference with its interval: "+0.0210 (0.0150 to 0.0270)".
func (c Check) difference() string {
	text := c.format(c.Got.Value - c.Want.Value)
	if c.Got.Value > c.Want.Value {
		text = "+" + text
	}
	if !math.IsNaN(c.Low) {
		text += fmt.Sprintf(" (%s to %s)", c.format(c.Low), c.format(c.High))
	}
	return text
}

func (c Check) format(x float64) string {
	switch {
	case c.Want.timed():
		return units.Significant(x)
	case c.Want.Unit == "bytes":
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'f', 4, 64)
}
