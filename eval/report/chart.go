package report

import (
	"slices"
	"strings"
)

// chart is what the page's script draws.
type chart struct {
	Figures  []chartFigure `json:"figures"`
	X        string        `json:"x"` // name of the figure that is on the axis at first
	Y        string        `json:"y"`
	Curves   []chartCurve  `json:"curves"`
	Settings []string      `json:"settings"`
	Points   []chartPoint  `json:"points"` // in the order of the table
}

// chartFigure is a figure that can be on an axis; values are shown multiplied by Scale.
type chartFigure struct {
	figureKind
	Title string  `json:"title"`
	Scale float64 `json:"scale"`
	Setup bool    `json:"setup"` // not measured
}

// chartCurve is the points of one recipe and one share of up-training. Curves of one recipe have the same hue.
type chartCurve struct {
	Recipe   string `json:"recipe"`
	Name     string `json:"name"`
	Hue      int    `json:"hue"`
	Filled   bool   `json:"filled"` // up-trained
	Dashes   int    `json:"dashes"` // number of its dash pattern; 0 is solid
	Baseline bool   `json:"baseline"`
}

type chartPoint struct {
	Name     string                `json:"name"`
	Groups   int                   `json:"groups"`
	Size     string                `json:"size"` // what a cache holds, beside the mark
	Curve    int                   `json:"curve"`
	Setting  int                   `json:"setting"`
	Base     bool                  `json:"base"`
	Best     bool                  `json:"best"`
	Values   map[string]float64    `json:"values"`
	Bars     map[string][2]float64 `json:"bars"`  // bounds of the bar through a value, if its error is known
	Texts    map[string][2]string  `json:"texts"` // a value, and its difference from the baseline
	Training [][2]float64          `json:"training,omitempty"`
	Layers   []LayerError          `json:"layers,omitempty"`
}

// chart returns the data of the page's charts.
func (r Report) chart(rows []row, rec Recommendation) chart {
	c := chart{X: "decode_ms_per_token", Y: "loss"}
	if slices.ContainsFunc(r.Points, func(p Point) bool { return p.DecodeMsPerToken == 0 }) {
		c.X = "kv_bytes_per_token"
	}
	figures, settings := r.figures(), r.settings()
	for _, f := range figures {
		scale := 1.0
		if f.percent() {
			scale = 100
		}
		c.Figures = append(c.Figures, chartFigure{f, f.Title(), scale, f.setup()})
	}
	for _, s := range settings {
		c.Settings = append(c.Settings, s.String())
	}
	curves := r.series()
	for _, s := range curves {
		c.Curves = append(c.Curves, chartCurve{s.recipe, s.name, s.hue, s.mark.filled, s.pattern, s.baseline})
	}
	for _, p := range rows {
		point := p.chartPoint(figures)
		point.Setting, point.Best = slices.Index(settings, p.setting()), rec.Meets() && p.same(rec.Point)
		if !p.isBase() { // the first curve is the baseline's
			point.Curve = slices.IndexFunc(curves, func(s series) bool { return slices.ContainsFunc(s.points, p.same) })
		}
		c.Points = append(c.Points, point)
	}
	return c
}

// chartPoint returns what the point is and what was measured.
func (p row) chartPoint(figures []figureKind) chartPoint {
	out := chartPoint{
		Name: p.Name(), Groups: p.Groups, Size: strings.TrimPrefix(p.size(), "g="), Base: p.isBase(), Training: p.Training, Layers: p.Layers,
		Values: map[string]float64{}, Bars: map[string][2]float64{}, Texts: map[string][2]string{},
	}
	for _, f := range figures {
		m, ok := p.metric(f.Name)
		if !ok {
			continue
		}
		out.Values[f.Name] = m.Value
		out.Texts[f.Name] = p.shortTexts(f)
		switch {
		case m.DeltaCI != nil && !f.relative(): // the interval of a time's difference may be mostly the baseline's error
			base := m.Value - *m.Delta
			out.Bars[f.Name] = [2]float64{base + m.DeltaCI[0], base + m.DeltaCI[1]}
		case m.Stderr > 0 && (f.relative() || !p.isBase()):
			out.Bars[f.Name] = [2]float64{m.Value - m.Stderr, m.Value + m.Stderr}
		}
	}
	return out
}
