package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Baseline is the point that others are compared with: the MHA one, or, if the
// report has none, the one with the most groups; in either case the least up-trained.
// A report without points has the zero Point.
func (r Report) Baseline() Point {
	if len(r.Points) == 0 {
		return Point{}
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

// row is a point beside the baseline it is compared with.
type row struct {
	Point
	base Point
}

// rows are the points in reading order: the baseline first, then from many
// groups to few, methods by name, and less up-training before more.
func (r Report) rows() []row {
	base := r.Baseline()
	var rows []row
	for _, p := range r.Points {
		rows = append(rows, row{p, base})
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(
			cmp.Compare(rank(a.Point == base), rank(b.Point == base)),
			cmp.Compare(b.Groups, a.Groups),
			cmp.Compare(a.Method, b.Method),
			cmp.Compare(a.Alpha, b.Alpha),
		)
	})
	return rows
}

// deltaLoss is how many nats per token the point lost against the baseline.
func (r row) deltaLoss() float64 { return r.Loss - r.base.Loss }

// lessKV is how many times smaller the KV cache of a token is.
func (r row) lessKV() float64 { return float64(r.base.KVBytesPerToken) / float64(r.KVBytesPerToken) }

// speedup is how many times faster the point decodes; NaN where the two were
// not measured alike, or not at all.
func (r row) speedup() float64 {
	if r.Batch != r.base.Batch || r.Context != r.base.Context || r.DecodeMsPerToken == 0 || r.base.DecodeMsPerToken == 0 {
		return math.NaN()
	}
	return r.base.DecodeMsPerToken / r.DecodeMsPerToken
}

// cost is what a point's quality is weighed against: decode time, or the KV
// cache where time was not measured for every point.
func (r Report) cost() func(Point) float64 {
	if slices.ContainsFunc(r.Points, func(p Point) bool { return p.DecodeMsPerToken == 0 }) {
		return func(p Point) float64 { return float64(p.KVBytesPerToken) }
	}
	return func(p Point) float64 { return p.DecodeMsPerToken }
}

// front is the Pareto front of the report from cheap to dear: no other point
// has both a lower loss and a lower cost than one of these.
func (r Report) front() []Point {
	cost := r.cost()
	byCost := slices.SortedFunc(slices.Values(r.Points), func(a, b Point) int {
		return cmp.Or(cmp.Compare(cost(a), cost(b)), cmp.Compare(a.Loss, b.Loss))
	})
	var front []Point
	for _, p := range byCost {
		if len(front) == 0 || p.Loss < front[len(front)-1].Loss {
			front = append(front, p)
		}
	}
	return front
}

// best is the converted point on the Pareto front that bends it most: the one
// farthest below the straight line between the front's ends, with log cost and
// loss each scaled to [0, 1]. It is false if no converted point is on the front.
func (r Report) best() (best Point, ok bool) {
	base, cost, front := r.Baseline(), r.cost(), r.front()
	cheap, dear := front[0], front[len(front)-1]
	reach := math.Inf(-1)
	for _, p := range front {
		x := share(math.Log(cost(p)), math.Log(cost(cheap)), math.Log(cost(dear)))
		y := share(p.Loss, dear.Loss, cheap.Loss)
		if p != base && p.Method != MethodMHA && 1-x-y > reach {
			best, reach, ok = p, 1-x-y, true
		}
	}
	return best, ok
}

// share is where x lies between lo (0) and hi (1).
func share(x, lo, hi float64) float64 {
	if hi == lo {
		return 0
	}
	return (x - lo) / (hi - lo)
}

// Conclusion is one sentence computed from the points: the best trade-off among
// them and what it costs and saves against the baseline.
func (r Report) Conclusion() string {
	if len(r.Points) < 2 {
		return "Fewer than two points were measured: there is nothing to compare."
	}
	base := r.Baseline()
	p, ok := r.best()
	if !ok {
		return fmt.Sprintf("No converted point pays: %s is both better and faster than each of them.", base.Name())
	}
	row := row{p, base}
	text := fmt.Sprintf("Best trade-off: g=%d (%s) %s: %s", p.Groups, p.Method, p.uptraining(), ratioText(row.lessKV(), "less KV cache", "more KV cache"))
	if speedup := row.speedup(); !math.IsNaN(speedup) {
		text += ", " + ratioText(speedup, "faster decode", "slower decode")
	}
	return text + fmt.Sprintf(", %+.2f nats per token.", row.deltaLoss())
}

// uptraining says how much a point was up-trained.
func (p Point) uptraining() string {
	switch {
	case p.Alpha > 0:
		return "after " + significant(100*p.Alpha) + "% of the original tokens"
	case p.UptrainTokens > 0:
		return "after " + countText(p.UptrainTokens) + " tokens"
	}
	return "without up-training"
}
