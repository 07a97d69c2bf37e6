package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gqa/internal/units"
)

// baseline returns the point that others are compared with: the one whose metrics have no differences. In version 1 it is the MHA
// point or, if there is none, the one with the most groups; in either case the least up-trained. For a report without points it
// returns the zero Point.
func (r Report) baseline() Point {
	if len(r.Points) == 0 {
		return Point{}
	}
	if i := slices.IndexFunc(r.Points, func(p Point) bool { return r.Version >= 2 && p.Metrics["loss"].Delta == nil }); i >= 0 {
		return r.Points[i]
	}
	return slices.MinFunc(r.Points, func(a, b Point) int {
		return cmp.Or(
			cmp.Compare(rank(a.Method == MethodMHA), rank(b.Method == MethodMHA)),
			cmp.Compare(rank(a.Alpha == 0), rank(b.Alpha == 0)),
			cmp.Compare(b.Groups, a.Groups),
			cmp.Compare(a.Alpha, b.Alpha),
		)
	})
}

// rank sorts what is wanted before what is not.
func rank(wanted bool) int {
	if wanted {
		return 0
	}
	return 1
}

// row is a point with the baseline that it is compared with.
type row struct {
	Point
	base Point
}

// rows returns the points in reading order: the baseline first, then from many groups to few, recipes by name, and less
// up-training before more.
func (r Report) rows() []row {
	base := r.baseline()
	var rows []row
	for _, p := range r.Points {
		rows = append(rows, row{p, base})
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(
			cmp.Compare(rank(a.same(base)), rank(b.same(base))),
			cmp.Compare(b.Groups, a.Groups),
			cmp.Compare(a.recipe(), b.recipe()),
			cmp.Compare(a.Alpha, b.Alpha),
		)
	})
	return rows
}

// deltaLoss returns how many nats per token the point lost against the baseline.
func (r row) deltaLoss() float64 { return r.Loss - r.base.Loss }

// deltaText returns deltaLoss and, if it is known, its 95% interval. Then it has at least three digits.
func (r row) deltaText(digits int) string {
	loss := r.Metrics["loss"]
	if loss.DeltaCI == nil || r.same(r.base) {
		return fmt.Sprintf("%+.*f", digits, r.deltaLoss())
	}
	digits = max(digits, 3)
	return fmt.Sprintf("%+.*f (%+.*f to %+.*f)", digits, r.deltaLoss(), digits, loss.DeltaCI[0], digits, loss.DeltaCI[1])
}

// lessKV returns how many times smaller the KV cache per token is.
func (r row) lessKV() float64 { return float64(r.base.KVBytesPerToken) / float64(r.KVBytesPerToken) }

// speedup returns how many times faster the point decodes; NaN if the two were not measured in the same way, or not at
// all.
func (r row) speedup() float64 {
	if r.Batch != r.base.Batch || r.Context != r.base.Context || r.DecodeMsPerToken == 0 || r.base.DecodeMsPerToken == 0 {
		return math.NaN()
	}
	return r.base.DecodeMsPerToken / r.DecodeMsPerToken
}

// untimed reports whether decode time is missing for some point.
func (r Report) untimed() bool {
	return slices.ContainsFunc(r.Points, func(p Point) bool { return p.DecodeMsPerToken == 0 })
}

// cost returns what a point's quality is weighed against: decode time, or the KV cache if decode time was not measured
// for every point.
func (r Report) cost() func(Point) float64 {
	if r.untimed() {
		return func(p Point) float64 { return float64(p.KVBytesPerToken) }
	}
	return func(p Point) float64 { return p.DecodeMsPerToken }
}

// margin is the loss above the baseline's, in nats per token, that still counts as the baseline's quality.
const margin = 0.1

// rule describes which point the report recommends.
const rule = "The best trade-off is the fastest converted point (if not all were timed, the one with the smallest KV cache) " +
	"whose loss is at most 0.1 nats per token above the baseline's."

// converted returns the points that save KV cache against the baseline: the fastest first and, of equally fast ones, the better.
func (r Report) converted() []row {
	cost := r.cost()
	rows := slices.DeleteFunc(r.rows(), func(p row) bool { return p.KVBytesPerToken >= p.base.KVBytesPerToken })
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(cost(a.Point), cost(b.Point)), cmp.Compare(a.Loss, b.Loss))
	})
	return rows
}

// best returns the point that the rule recommends; false if there is none.
func (r Report) best() (row, bool) {
	rows := r.converted()
	if i := slices.IndexFunc(rows, func(p row) bool { return p.deltaLoss() <= margin }); i >= 0 {
		return rows[i], true
	}
	return row{}, false
}

// conclusion returns one sentence computed from the points: the best trade-off among
// them and what it costs and saves against the baseline, or that there is none yet.
func (r Report) conclusion() string {
	rows := r.converted()
	if len(r.Points) < 2 || len(rows) == 0 {
		return "There is nothing to compare: no converted point was measured beside a baseline."
	}
	if best, ok := r.best(); ok {
		return fmt.Sprintf("Best trade-off: %s: %s, %s nats per token.", best.treatment(), best.savings(), best.deltaText(2))
	}
	word := "fastest"
	if r.untimed() {
		word = "smallest"
	}
	return fmt.Sprintf("No converted point is within %g nats per token of the baseline yet; the %s, %s, has %s, but %s nats: up-train longer.",
		margin, word, rows[0].treatment(), rows[0].savings(), rows[0].deltaText(2))
}

// treatment describes what was done to a point: "g=4 (mean) after 5% of the original tokens".
func (p Point) treatment() string {
	return fmt.Sprintf("g=%d (%s) %s", p.Groups, p.recipe(), p.uptraining())
}

// savings describes a point's advantages over the baseline.
func (r row) savings() string {
	text := ratioText(r.lessKV(), "less KV cache", "more KV cache")
	if speedup := r.speedup(); !math.IsNaN(speedup) {
		text += ", " + ratioText(speedup, "faster decode", "slower decode")
	}
	return text
}

// uptraining describes how much a point was up-trained.
func (p Point) uptraining() string {
	switch {
	case p.Alpha > 0:
		return "after " + units.Significant(100*p.Alpha) + "% of the original tokens"
	case p.UptrainTokens > 0:
		return "after " + units.Count(p.UptrainTokens) + " tokens"
	}
	return "without up-training"
}
