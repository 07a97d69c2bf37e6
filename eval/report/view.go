package report

import (
	"cmp"
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
	var rows []row
	for _, p := range r.Points {
		rows = append(rows, row{p, r.baselineOf(p)})
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(
			cmp.Compare(rank(a.isBase()), rank(b.isBase())),
			cmp.Compare(b.Groups, a.Groups),
			cmp.Compare(a.recipe(), b.recipe()),
			cmp.Compare(a.Alpha, b.Alpha),
		)
	})
	return rows
}

// baselineOf returns what a point is compared with: the baseline, measured at the point's batch and context if it was.
func (r Report) baselineOf(p Point) Point {
	base := r.baseline()
	at := base
	if at.Batch, at.Context = p.Batch, p.Context; at.setting() == base.setting() {
		return base
	}
	if i := slices.IndexFunc(r.Points, at.same); i >= 0 {
		return r.Points[i]
	}
	return base
}

// isBase reports whether the point is the one that it is compared with.
func (r row) isBase() bool { return r.same(r.base) }

// deltaLoss returns how many nats per token the point lost against the baseline.
func (r row) deltaLoss() float64 { return r.Loss - r.base.Loss }

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
