package report

import (
	"cmp"
	"image/color"
	"slices"

	"gqa/internal/units"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// series is one curve: the points of one recipe and one alpha, over groups.
type series struct {
	name     string // in the legend
	label    string // beside the curve
	recipe   string
	hue      int // of hues
	pattern  int // of dashes, from 1; 0 is solid
	points   []Point
	baseline bool
	color    color.Color
	mark     mark
	dashes   []vg.Length
}

// hues are the recipes' colours and shapes: the palette of Okabe and Ito, which colour-blind readers can distinguish,
// without its yellow, which is hard to see on white.
var hues = []struct {
	color color.Color
	shape shape
}{
	{color.NRGBA{0x00, 0x72, 0xb2, 0xff}, circle},   // blue
	{color.NRGBA{0xd5, 0x5e, 0x00, 0xff}, square},   // vermilion
	{color.NRGBA{0x00, 0x9e, 0x73, 0xff}, triangle}, // green
	{color.NRGBA{0xcc, 0x79, 0xa7, 0xff}, diamond},  // purple
	{color.NRGBA{0xe6, 0x9f, 0x00, 0xff}, wedge},    // orange
	{color.NRGBA{0x56, 0xb4, 0xe9, 0xff}, hexagon},  // sky blue
}

// known are the methods whose first recipe has the same colour in every report.
var known = []string{"mean", "calibrated", "align", "first", "random", "mla"}

// dashes distinguish the alphas above 0 of one recipe; the smallest is solid.
var dashes = [][]vg.Length{nil, {6, 2}, {6, 2, 1, 2}, {2, 2}}

// untrained are the dots of a conversion that was not up-trained.
var untrained = []vg.Length{1.5, 2.5}

// series returns the report's curves: the baseline, then each recipe with its alphas in increasing order. A recipe has
// the same colour and shape for all alphas; hollow marks and dots are points that were not up-trained.
func (r Report) series() []series {
	base := r.baseline()
	all := []series{{name: base.recipe() + " (baseline)", recipe: base.recipe(), points: []Point{base}, baseline: true, color: ink, mark: mark{star, true}}}
	recipes := r.recipes()
	for i, hue := range hueOf(recipes) {
		all = append(all, r.curves(recipes[i].recipe(), hue)...)
	}
	return all
}

// curves returns the curves of a recipe, one for each alpha.
func (r Report) curves(recipe string, hue int) (all []series) {
	alphas := r.alphas(recipe)
	trained := 0
	for _, alpha := range alphas {
		s := series{
			name: recipe, label: recipe, recipe: recipe, points: r.curve(recipe, alpha),
			hue: hue, color: hues[hue].color, mark: mark{hues[hue].shape, true},
		}
		if alpha == 0 && s.points[0].UptrainTokens == 0 {
			s.mark.filled = false
			s.name, s.dashes, s.pattern = recipe+", as converted", untrained, len(dashes)
			if len(alphas) > 1 {
				s.label = "as converted"
			}
		} else if alpha > 0 {
			share := "α = " + units.Significant(100*alpha) + "%"
			if trained > 0 {
				s.label = share
			}
			s.name += ", " + share
			s.pattern = trained % len(dashes)
			s.dashes = dashes[s.pattern]
			trained++
		}
		all = append(all, s)
	}
	return all
}

// recipes returns one point of each recipe, without the baseline: known methods first, the others by name.
func (r Report) recipes() []Point {
	base := r.baseline()
	var recipes []Point
	for _, p := range r.Points {
		same := func(q Point) bool { return q.recipe() == p.recipe() }
		if !p.same(base) && !slices.ContainsFunc(recipes, same) {
			recipes = append(recipes, p)
		}
	}
	slices.SortFunc(recipes, func(a, b Point) int {
		return cmp.Or(
			cmp.Compare(rank(slices.Contains(known, a.Method)), rank(slices.Contains(known, b.Method))),
			cmp.Compare(slices.Index(known, a.Method), slices.Index(known, b.Method)),
			cmp.Compare(a.recipe(), b.recipe()),
		)
	})
	return recipes
}

// hueOf assigns a hue to each recipe: its method's if that is known and not taken by an earlier recipe, otherwise the
// next free one.
func hueOf(recipes []Point) []int {
	of, taken := make([]int, len(recipes)), map[int]bool{-1: true} // an unknown method has none
	var others []int
	for i, p := range recipes {
		if of[i] = slices.Index(known, p.Method); taken[of[i]] {
			others = append(others, i)
		}
		taken[of[i]] = true
	}
	next := len(hues) - 1 // the last is the least frequent
	for _, i := range others {
		for tries := 0; tries < len(hues) && taken[next%len(hues)]; tries++ {
			next++
		}
		of[i] = next % len(hues)
		taken[of[i]] = true
		next++
	}
	return of
}

// alphas returns the alphas of a recipe's points in increasing order, without the baseline's.
func (r Report) alphas(recipe string) []float64 {
	var alphas []float64
	for _, p := range r.Points {
		if p.recipe() == recipe && !p.same(r.baseline()) {
			alphas = append(alphas, p.Alpha)
		}
	}
	slices.Sort(alphas)
	return slices.Compact(alphas)
}

// curve returns the points of a recipe and an alpha ordered by groups, without the baseline.
func (r Report) curve(recipe string, alpha float64) []Point {
	base := r.baseline()
	var points []Point
	for _, p := range r.Points {
		if p.recipe() == recipe && p.Alpha == alpha && !p.same(base) {
			points = append(points, p)
		}
	}
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Compare(a.Groups, b.Groups) })
	return points
}

// xys returns the points of the curve in a panel's coordinates.
func (s series) xys(a axes) plotter.XYs {
	var xys plotter.XYs
	for _, p := range s.points {
		xys = append(xys, a.at(p))
	}
	return xys
}

// plotters returns the curve's line, error bars and marks.
func (s series) plotters(a axes) ([]plot.Plotter, error) {
	bars := errorBars{XYs: s.xys(a)}
	for i, p := range s.points {
		at := bars.XYs[i].Y
		bars.YErrors = append(bars.YErrors, struct{ Low, High float64 }{
			at - a.loss.warp(p.Loss-p.LossStderr), a.loss.warp(p.Loss+p.LossStderr) - at,
		})
	}
	drawn, err := plotter.NewYErrorBars(bars)
	if err != nil {
		return nil, err
	}
	drawn.LineStyle = draw.LineStyle{Color: s.color, Width: 0.9}
	drawn.CapWidth = 5
	return []plot.Plotter{s.line(bars.XYs), drawn, s.marks(bars.XYs)}, nil
}

type errorBars struct {
	plotter.XYs
	plotter.YErrors
}

func (s series) line(xys plotter.XYs) *plotter.Line {
	style := draw.LineStyle{Color: s.color, Width: 1.3, Dashes: s.dashes}
	if s.baseline {
		style = baselineRule
	}
	return &plotter.Line{XYs: xys, LineStyle: style}
}

func (s series) marks(xys plotter.XYs) *plotter.Scatter {
	radius := vg.Length(3.4)
	if s.baseline {
		radius = 6
	}
	return &plotter.Scatter{XYs: xys, GlyphStyle: draw.GlyphStyle{Color: s.color, Radius: radius, Shape: s.mark}}
}
