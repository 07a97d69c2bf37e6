package report

import "fmt"

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
	figure
	Title string  `json:"title"`
	Scale float64 `json:"scale"`
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
	Curve    int                   `json:"curve"`
	Setting  int                   `json:"setting"`
	Base     bool                  `json:"base"`
	Best     bool                  `json:"best"`
	Values   map[string]float64    `json:"values"`
	Bars     map[string][2]float64 `json:"bars"` // bounds of the bar through a value, if its error is known
	Texts    map[string]string     `json:"texts"`
	Training [][2]float64          `json:"training,omitempty"`
	Layers   []LayerError          `json:"layers,omitempty"`
}

// chart returns the data of the page's charts.
func (r Report) chart(rows []row, rec Recommendation) chart {
	c := chart{X: "kv_bytes_per_token", Y: "loss"}
	timed := true
	for _, p := range rows {
		timed = timed && p.DecodeMsPerToken > 0
	}
	if timed {
		c.X = "decode_ms_per_token"
	}
	figures := r.figures()
	for _, f := range figures {
		scale := 1.0
		if f.percent() {
			scale = 100
		}
		c.Figures = append(c.Figures, chartFigure{f, f.Title(), scale})
	}
	for _, s := range r.settings() {
		c.Settings = append(c.Settings, s.String())
	}
	at := map[string]int{}
	for i, s := range r.series() {
		c.Curves = append(c.Curves, chartCurve{s.recipe, s.name, s.hue, s.mark.filled, s.pattern, s.baseline})
		for _, p := range s.points {
			at[fmt.Sprint(p.Name(), p.setting())] = i
		}
	}
	for _, p := range rows {
		curve := at[fmt.Sprint(p.Name(), p.setting())]
		if p.isBase() {
			curve = 0
		}
		c.Points = append(c.Points, p.chartPoint(figures, curve, c.setting(p), rec.Meets() && p.same(rec.Point)))
	}
	return c
}

// setting returns the number of a point's batch and context.
func (c chart) setting(p row) int {
	for i, s := range c.Settings {
		if s == p.setting().String() {
			return i
		}
	}
	return 0
}

func (p row) chartPoint(figures []figure, curve, setting int, best bool) chartPoint {
	out := chartPoint{
		Name: p.Name(), Groups: p.Groups, Curve: curve, Setting: setting, Base: p.isBase(), Best: best,
		Values: map[string]float64{}, Bars: map[string][2]float64{}, Texts: map[string]string{}, Training: p.Training, Layers: p.Layers,
	}
	for _, f := range figures {
		m, ok := p.metric(f.Name)
		if !ok {
			continue
		}
		out.Values[f.Name] = m.Value
		text := p.figureText(f)
		if more := p.differenceText(f); more != "" && !f.setup() {
			text += " (" + more + ")"
		}
		out.Texts[f.Name] = text
		switch {
		case m.DeltaCI != nil && m.Delta != nil:
			base := m.Value - *m.Delta
			out.Bars[f.Name] = [2]float64{base + m.DeltaCI[0], base + m.DeltaCI[1]}
		case m.Stderr > 0 && !p.isBase():
			out.Bars[f.Name] = [2]float64{m.Value - m.Stderr, m.Value + m.Stderr}
		}
	}
	return out
}
