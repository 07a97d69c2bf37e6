package report

import (
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// ink is the colour of text and axes. Its hexadecimal form in an SVG is replaced if the figure adopts the colours of a
// page.
var ink = color.NRGBA{0x1f, 0x23, 0x28, 0xff}

const inkHex = "#1F2328"

// baselineRule is the style of the line at the baseline's loss.
var baselineRule = draw.LineStyle{Color: ink, Width: 0.75, Dashes: []vg.Length{5, 3}}

func textStyle(size vg.Length) text.Style {
	return text.Style{
		Color: ink, Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
		Handler: plot.DefaultTextHandler,
	}
}

// newPlot returns an empty plot in the figure's style, without a background.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color = ink, ink
		axis.Width, axis.Tick.Width = 0.6, 0.6
		axis.Padding = 0
		setStyle(&axis.Label.TextStyle, 10)
		setStyle(&axis.Tick.Label, 9)
		axis.Label.Padding = 3
	}
	return p
}

// setStyle preserves the alignment that an axis chose for its text.
func setStyle(style *text.Style, size vg.Length) {
	ours := textStyle(size)
	style.Color, style.Font = ours.Color, ours.Font
}

func gridLines() *plotter.Grid {
	style := draw.LineStyle{Color: color.NRGBA{0x80, 0x80, 0x80, 0x40}, Width: 0.5}
	return &plotter.Grid{Vertical: style, Horizontal: style}
}

func newLegend(all []series) plot.Legend {
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.TextStyle = textStyle(9)
	legend.Padding = 5
	legend.ThumbnailWidth = 26
	for _, s := range all {
		legend.Add(s.name, s.line(nil), s.marks(nil))
	}
	return legend
}

// drawHeading writes above the figure what was measured, and on which machine.
func drawHeading(c draw.Canvas, r Report) {
	title, small := textStyle(13), textStyle(9)
	title.YAlign, small.YAlign = draw.YTop, draw.YTop
	c.FillText(title, vg.Point{X: c.Min.X, Y: c.Max.Y}, fit(title, c.Size().X, r.Model+": quality against decode latency and KV cache"))
	c.FillText(small, vg.Point{X: c.Min.X, Y: c.Max.Y - 19}, fit(small, c.Size().X, "corpus: "+r.Corpus+" · machine: "+r.Machine))
}

// fit puts a text on one line and truncates it to a width.
func fit(style text.Style, width vg.Length, line string) string {
	line = strings.Join(strings.Fields(line), " ")
	if style.Width(line) <= width {
		return line
	}
	runes := []rune(line)
	for len(runes) > 0 && style.Width(string(runes)+"…") > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

// mark draws the points of a curve: a shape, filled or hollow.
type mark struct {
	shape  shape
	filled bool
}

// shape is a polygon around a point: its corners as multiples of the radius.
type shape []struct{ x, y float64 }

var (
	circle   = regular(24, 0, 1)
	square   = regular(4, math.Pi/4, 1.2)
	triangle = regular(3, math.Pi/2, 1.25)
	diamond  = regular(4, 0, 1.25)
	wedge    = regular(3, -math.Pi/2, 1.25)
	hexagon  = regular(6, 0, 1.1)
	star     = pointed(5, 0.45)
)

// regular returns the polygon of n corners, the first at an angle, on a circle of radius size.
func regular(n int, angle, size float64) (s shape) {
	for i := range n {
		sin, cos := math.Sincos(angle + 2*math.Pi*float64(i)/float64(n))
		s = append(s, struct{ x, y float64 }{size * cos, size * sin})
	}
	return s
}

// pointed returns a star of n points whose inner corners are at a share of its radius.
func pointed(n int, cut float64) shape {
	s := regular(2*n, math.Pi/2, 1)
	for i := 1; i < len(s); i += 2 {
		s[i].x, s[i].y = cut*s[i].x, cut*s[i].y
	}
	return s
}

// DrawGlyph draws the mark at a point of the canvas.
func (m mark) DrawGlyph(c *draw.Canvas, style draw.GlyphStyle, at vg.Point) {
	var path vg.Path
	for i, corner := range m.shape {
		p := vg.Point{X: at.X + style.Radius*vg.Length(corner.x), Y: at.Y + style.Radius*vg.Length(corner.y)}
		if i == 0 {
			path.Move(p)
		} else {
			path.Line(p)
		}
	}
	path.Close()
	c.SetLineStyle(draw.LineStyle{Color: style.Color, Width: 1.2})
	if m.filled {
		c.Fill(path)
	}
	c.Stroke(path)
}
