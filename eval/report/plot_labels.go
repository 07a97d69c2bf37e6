package report

import (
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// labels writes the name of each point where it covers as little as possible of the marks, the lines and the names
// written before it, and then the name of each curve that has room for it.
type labels struct {
	style  text.Style
	lines  []plotter.XYs
	points plotter.XYs
	names  []label
}

// label is a name with its possible places.
type label struct {
	text  string
	color color.Color
	at    plotter.XYs
	must  bool // it is written even if it covers something
}

// fewCurves is the maximum number of curves with room for their names.
const fewCurves = 6

func (l *labels) add(all []series, a axes) {
	for _, s := range all {
		xys := s.xys(a)
		l.lines, l.points = append(l.lines, xys), append(l.points, xys...)
		for i, p := range s.points {
			name := p.size()
			if p.Method == MethodMHA {
				name = "MHA"
			}
			l.names = append(l.names, label{name, ink, xys[i : i+1], true})
		}
	}
	for _, s := range slices.Backward(all) { // up-trained ones first
		if !s.baseline && len(all)-1 <= fewCurves {
			l.names = append(l.names, label{s.label, s.color, along(s.xys(a)), false})
		}
	}
}

// along returns the points of a line, and some in between.
func along(line plotter.XYs) (all plotter.XYs) {
	const parts = 4
	for i, p := range line {
		for part := 1; i > 0 && part < parts; part++ {
			q, t := line[i-1], float64(part)/parts
			all = append(all, plotter.XY{X: q.X + t*(p.X-q.X), Y: q.Y + t*(p.Y-q.Y)})
		}
		all = append(all, p)
	}
	return all
}

// places returns the possible positions of a name around its point, best first: the direction of its nearest corner or
// side.
var places = []struct{ x, y float64 }{{1, 1}, {-1, 1}, {1, -1}, {-1, -1}, {1, 0}, {-1, 0}, {0, 1}, {0, -1}}

// Plot writes the names.
func (l *labels) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	at := func(xy plotter.XY) vg.Point { return vg.Point{X: x(xy.X), Y: y(xy.Y)} }
	var taken []vg.Rectangle
	for _, point := range l.points {
		taken = append(taken, around(at(point), 4))
	}
	for _, line := range l.lines {
		for i := 1; i < len(line); i++ {
			taken = append(taken, under(at(line[i-1]), at(line[i]))...)
		}
	}
	for _, name := range l.names {
		style := l.style
		style.Color = name.color
		var anchors []vg.Point
		for _, xy := range name.at {
			anchors = append(anchors, at(xy))
		}
		box, covered := place(c, style, anchors, name.text, taken)
		if covered > littleCovered && !name.must {
			continue
		}
		taken = append(taken, box)
		c.FillText(style, vg.Point{X: box.Min.X, Y: box.Min.Y + style.FontExtents().Descent}, name.text)
	}
}

// littleCovered is the area, in square points, that a name may cover and still be legible.
const littleCovered = 8

// place returns the box for a name that covers the least beside one of the anchors, and the area that it covers.
func place(c draw.Canvas, style text.Style, anchors []vg.Point, name string, taken []vg.Rectangle) (best vg.Rectangle, least float64) {
	const gap = 5
	extents := style.FontExtents()
	half := vg.Point{X: style.Width(name) / 2, Y: (extents.Ascent + extents.Descent) / 2}
	least = math.Inf(1)
	for _, at := range anchors {
		for _, place := range places {
			center := vg.Point{X: at.X + vg.Length(place.x)*(half.X+gap), Y: at.Y + vg.Length(place.y)*(half.Y+gap-1)}
			box := vg.Rectangle{Min: center.Sub(half), Max: center.Add(half)}
			covered := 4*half.X*half.Y - overlap(box, c.Rectangle) // the area outside the plot
			for _, other := range taken {
				covered += overlap(box, other)
			}
			if float64(covered) < least-1e-6 {
				best, least = box, float64(covered)
			}
		}
	}
	return best, least
}

// around returns the square of a half width around a point.
func around(p vg.Point, half vg.Length) vg.Rectangle {
	d := vg.Point{X: half, Y: half}
	return vg.Rectangle{Min: p.Sub(d), Max: p.Add(d)}
}

// under returns the line between two points as small squares.
func under(a, b vg.Point) (squares []vg.Rectangle) {
	const step = 3
	d := b.Sub(a)
	n := int(math.Hypot(float64(d.X), float64(d.Y))/step) + 1
	for i := range n {
		squares = append(squares, around(a.Add(d.Scale(vg.Length(i)/vg.Length(n))), step/2))
	}
	return squares
}

// overlap returns the area that two rectangles share.
func overlap(a, b vg.Rectangle) vg.Length {
	w := min(a.Max.X, b.Max.X) - max(a.Min.X, b.Min.X)
	h := min(a.Max.Y, b.Max.Y) - max(a.Min.Y, b.Min.Y)
	return max(w, 0) * max(h, 0)
}
