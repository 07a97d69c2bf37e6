package report

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"io"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The figure's size, and the resolution of its PNG form.
const (
	figureWidth  = 12 * vg.Inch
	figureHeight = 5 * vg.Inch

	headingHeight = 40 // above the figure, if there is a heading
	pngDPI        = 144
)

// panel is one of the figure's two plots: loss over x.
type panel struct {
	title string
	x     func(Point) float64
	ticks func(Report) plot.Ticker
}

var panels = []panel{
	{"decode time, ms per token", func(p Point) float64 { return p.DecodeMsPerToken }, func(Report) plot.Ticker { return roundTicks{} }},
	{"KV cache per token (f32)", log2KV, Report.kvTicks},
}

func log2KV(p Point) float64 { return math.Log2(float64(p.KVBytesPerToken)) }

// draw draws the figure: a heading if wanted, the panels side by side and a legend beside them.
func (r Report) draw(c draw.Canvas, heading bool) error {
	c = draw.Crop(c, 10, -10, 8, -10)
	if heading {
		drawHeading(c, r)
		c = draw.Crop(c, 0, 0, 0, -headingHeight)
	}
	series := r.series()
	legend := newLegend(series)
	width := 1.15*legend.Rectangle(c).Size().X + 8 // viewers without our font may use a wider one
	legend.Draw(draw.Crop(c, c.Size().X-width, 0, 0, -8))

	plots := [][]*plot.Plot{make([]*plot.Plot, len(panels))}
	for i, p := range panels {
		drawn, err := r.panel(p, series)
		if err != nil {
			return err
		}
		plots[0][i] = drawn
	}
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadX: 18}
	canvases := plot.Align(plots, tiles, draw.Crop(c, 0, -width-14, 0, 0))
	for i, p := range plots[0] {
		p.Draw(canvases[0][i])
	}
	return nil
}

// panel plots the series over one x.
func (r Report) panel(p panel, series []series) (*plot.Plot, error) {
	axes := axes{p.x, r.lossScale()}
	out := newPlot()
	out.X.Label.Text, out.Y.Label.Text = p.title, "loss above the baseline's, nats per token (perplexity)"
	out.X.Tick.Marker, out.Y.Tick.Marker = p.ticks(r), axes.loss
	out.X.Min, out.X.Max, out.Y.Min, out.Y.Max = r.bounds(axes)
	rule := &plotter.Line{XYs: plotter.XYs{{X: out.X.Min}, {X: out.X.Max}}, LineStyle: baselineRule}
	names := &labels{style: textStyle(8.5), lines: []plotter.XYs{rule.XYs}}
	out.Add(gridLines(), rule)
	for _, s := range series {
		parts, err := s.plotters(axes)
		if err != nil {
			return nil, err
		}
		out.Add(parts...)
	}
	names.add(series, axes)
	out.Add(names)
	return out, nil
}

// axes returns the coordinates of a panel.
type axes struct {
	x    func(Point) float64
	loss lossScale
}

func (a axes) at(p Point) plotter.XY { return plotter.XY{X: a.x(p), Y: a.loss.warp(p.Loss)} }

// bounds returns the ranges of both coordinates, with room around the points for marks and names.
func (r Report) bounds(a axes) (xmin, xmax, ymin, ymax float64) {
	xmin, ymin = math.Inf(1), math.Inf(1)
	xmax, ymax = math.Inf(-1), math.Inf(-1)
	for _, p := range r.Points {
		xmin, xmax = min(xmin, a.x(p)), max(xmax, a.x(p))
		ymin, ymax = min(ymin, a.loss.warp(p.Loss-p.LossStderr)), max(ymax, a.loss.warp(p.Loss+p.LossStderr))
	}
	xmin, xmax = widen(xmin, xmax, 0.12)
	ymin, ymax = widen(ymin, ymax, 0.1)
	return xmin, xmax, ymin, ymax
}

func widen(lo, hi, by float64) (float64, float64) {
	room := by * (hi - lo)
	if room == 0 {
		room = max(0.1*math.Abs(hi), 1e-3)
	}
	return lo - room, hi + room
}

func (r Report) png(w io.Writer) error {
	c := vgimg.NewWith(vgimg.UseWH(figureWidth, figureHeight+headingHeight), vgimg.UseDPI(pngDPI))
	if err := r.draw(draw.New(c), true); err != nil {
		return err
	}
	_, err := vgimg.PngCanvas{Canvas: c}.WriteTo(w)
	return err
}

func (r Report) svg(w io.Writer) error {
	c := vgsvg.New(figureWidth, figureHeight+headingHeight)
	canvas := draw.New(c)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	if err := r.draw(canvas, true); err != nil {
		return err
	}
	figure, err := r.element(c)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"+figure)
	return err
}

// inlineSVG returns the figure for a page that has its own heading and colours.
func (r Report) inlineSVG() (string, error) {
	c := vgsvg.New(figureWidth, figureHeight)
	if err := r.draw(draw.New(c), false); err != nil {
		return "", err
	}
	figure, err := r.element(c)
	return strings.ReplaceAll(figure, inkHex, "currentColor"), err
}

// element returns the drawing as an <svg> element, with a title for screen readers and with fonts that every machine has.
func (r Report) element(c *vgsvg.Canvas) (string, error) {
	var out bytes.Buffer
	if _, err := c.WriteTo(&out); err != nil {
		return "", err
	}
	_, figure, _ := strings.Cut(out.String(), "<svg ")
	attributes, body, _ := strings.Cut(figure, ">")
	body = strings.ReplaceAll(body, "font-family:Liberation Sans;", "font-family:'Liberation Sans',Arial,Helvetica,sans-serif;")
	return fmt.Sprintf("<svg role=\"img\" aria-labelledby=\"tradeoff-title\" %s>\n<title id=\"tradeoff-title\">%s</title>%s",
		attributes, html.EscapeString(r.alt()), body), nil
}

// alt describes the figure in words.
func (r Report) alt() string {
	base := r.baseline()
	return fmt.Sprintf("Loss of %d points of %s against decode time per token and against KV-cache bytes per token; the baseline %s is at %.4f nats. %s",
		len(r.Points), r.Model, base.Name(), base.Loss, r.Recommend().Text)
}
