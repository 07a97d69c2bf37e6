package eval

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// labels writes the name of each point where it covers the least of the marks,
// the lines and the names written before it.
type labels struct {
	style  text.Style
	curves []plotter.XYs
	points plotter.XYs
	names  []string
}

func (l *labels) add(s series, a axes) {
	xys := s.xys(a)
	l.curves = append(l.curves, xys)
	for i, p := range s.points {
		name := fmt.Sprintf("g=%d", p.Groups)
		if p.Method == MethodMHA {
			name = "MHA"
		}
		l.points, l.names = append(l.points, xys[i]), append(l.names, name)
	}
}

// places are where a name may stand around its point, best first: the
// direction of its nearest corner or side.
var places = []struct{ x, y float64 }{{1, 1}, {-1, 1}, {1, -1}, {-1, -1}, {1, 0}, {-1, 0}, {0, 1}, {0, -1}}

// Plot writes the names.
func (l *labels) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	at := func(xy plotter.XY) vg.Point { return vg.Point{X: x(xy.X), Y: y(xy.Y)} }
	var taken []vg.Rectangle
	for _, point := range l.points {
		taken = append(taken, around(at(point), 4))
	}
	for _, curve := range l.curves {
		for i := 1; i < len(curve); i++ {
			taken = append(taken, along(at(curve[i-1]), at(curve[i]))...)
		}
	}
	for i, name := range l.names {
		box := l.place(c, at(l.points[i]), name, taken)
		taken = append(taken, box)
		c.FillText(l.style, vg.Point{X: box.Min.X, Y: box.Min.Y + l.style.FontExtents().Descent}, name)
	}
}

// place is the free-est box for a name beside a point.
func (l *labels) place(c draw.Canvas, at vg.Point, name string, taken []vg.Rectangle) (best vg.Rectangle) {
	const gap = 5
	extents := l.style.FontExtents()
	width, height := l.style.Width(name), extents.Ascent+extents.Descent
	least := math.Inf(1)
	for _, place := range places {
		center := vg.Point{
			X: at.X + vg.Length(place.x)*(width/2+gap),
			Y: at.Y + vg.Length(place.y)*(height/2+gap-1),
		}
		half := vg.Point{X: width / 2, Y: height / 2}
		box := vg.Rectangle{Min: center.Sub(half), Max: center.Add(half)}
		covered := width*height - overlap(box, c.Rectangle) // what lies outside the plot
		for _, other := range taken {
			covered += overlap(box, other)
		}
		if float64(covered) < least-1e-6 {
			best, least = box, float64(covered)
		}
	}
	return best
}

// around is the square of a half width around a point.
func around(p vg.Point, half vg.Length) vg.Rectangle {
	d := vg.Point{X: half, Y: half}
	return vg.Rectangle{Min: p.Sub(d), Max: p.Add(d)}
}

// along is the line between two points as small squares.
func along(a, b vg.Point) (squares []vg.Rectangle) {
	const step = 3
	d := b.Sub(a)
	n := int(math.Hypot(float64(d.X), float64(d.Y))/step) + 1
	for i := range n {
		squares = append(squares, around(a.Add(d.Scale(vg.Length(i)/vg.Length(n))), step/2))
	}
	return squares
}

// overlap is the area that two rectangles share.
func overlap(a, b vg.Rectangle) vg.Length {
	w := min(a.Max.X, b.Max.X) - max(a.Min.X, b.Min.X)
	h := min(a.Max.Y, b.Max.Y) - max(a.Min.Y, b.Min.Y)
	return max(w, 0) * max(h, 0)
}
