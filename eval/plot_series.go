package eval

import (
	"cmp"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// series is one curve: the points of one method and one alpha, over groups.
type series struct {
	name     string
	points   []Point
	baseline bool
	color    color.Color
	mark     mark
	dashes   []vg.Length
}

// hues are the methods' colours and shapes: Okabe and Ito's set, which stays
// apart for colour-blind eyes, without its yellow, which white paper swallows.
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

// known are the methods whose colour is the same in every report.
var known = []string{"mean", "calibrated", "align", "first", "random"}

// dashes tell the alphas above 0 of one method apart, the smallest solid.
var dashes = [][]vg.Length{nil, {6, 2}, {6, 2, 1, 2}, {2, 2}}

// series are the report's curves: the baseline, then each method with its
// alphas in rising order. A method keeps its colour and shape through its
// alphas; hollow marks and dots are points that were not up-trained.
func (r Report) series() []series {
	base := r.Baseline()
	all := []series{{name: base.Method + " (baseline)", points: []Point{base}, baseline: true, color: ink, mark: mark{star, true}}}
	for i, method := range r.methods() {
		hue := hues[i%len(hues)]
		trained := 0
		for _, alpha := range r.alphas(method) {
			s := series{name: method, color: hue.color, mark: mark{hue.shape, alpha > 0}, dashes: []vg.Length{1.5, 2.5}}
			if alpha > 0 {
				s.name += ", α = " + significant(100*alpha) + "%"
				s.dashes = dashes[trained%len(dashes)]
				trained++
			}
			if s.points = r.curve(method, alpha); len(s.points) > 0 {
				all = append(all, s)
			}
		}
	}
	return all
}

// methods are the known ones, whether present or not, then the others by name.
func (r Report) methods() []string {
	methods := slices.Clone(known)
	var others []string
	for _, p := range r.Points {
		if !slices.Contains(known, p.Method) {
			others = append(others, p.Method)
		}
	}
	slices.Sort(others)
	return append(methods, slices.Compact(others)...)
}

func (r Report) alphas(method string) []float64 {
	var alphas []float64
	for _, p := range r.Points {
		if p.Method == method {
			alphas = append(alphas, p.Alpha)
		}
	}
	slices.Sort(alphas)
	return slices.Compact(alphas)
}

// curve are the points of a method and an alpha by groups, without the baseline.
func (r Report) curve(method string, alpha float64) []Point {
	base := r.Baseline()
	var points []Point
	for _, p := range r.Points {
		if p.Method == method && p.Alpha == alpha && p != base {
			points = append(points, p)
		}
	}
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Compare(a.Groups, b.Groups) })
	return points
}

// xys are the points of the curve in a panel.
func (s series) xys(a axes) plotter.XYs {
	var xys plotter.XYs
	for _, p := range s.points {
		xys = append(xys, a.at(p))
	}
	return xys
}

// plotters are the curve's line, error bars and marks.
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
