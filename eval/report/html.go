package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"slices"
	"strings"

	"gqa/internal/units"
)

// The parts of the page. The chart library is made by "make charts"; see html/vendor/README.md.
var (
	//go:embed html/report.html
	pageText string
	//go:embed html/report.css
	pageStyle string
	//go:embed html/report.js
	pageScript string
	//go:embed html/vendor/plot.min.js
	chartLibrary string
)

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{"soft": soft}).Parse(pageText))

// html writes one file that needs no other and makes no network request, which its content security policy also forbids.
func (r Report) html(w io.Writer) error {
	page, err := r.page()
	if err != nil {
		return err
	}
	return pageTemplate.Execute(w, page)
}

// page is what the template shows.
type page struct {
	Report
	Policy                string // content security policy
	Style                 template.CSS
	ChartLibrary, Script  template.JS
	Recommendation        Recommendation
	Best                  int // row of the recommended point; negative if there is none
	Static                template.HTML
	Columns               []pageColumn
	Rows                  []pageRow
	Latencies             *grid
	Layers                *layerTable
	HasTraining, HasTexts bool
	TimedAt, Notes        string
	Chart                 chart
}

func (r Report) page() (page, error) {
	static, err := r.inlineSVG()
	if err != nil {
		return page{}, err
	}
	rows, rec := r.rows(), r.Recommend()
	p := page{
		Report: r, Policy: policy(chartLibrary, pageScript), Style: template.CSS(pageStyle),
		ChartLibrary: template.JS(chartLibrary), Script: template.JS(pageScript),
		Recommendation: rec, Best: -1, Static: template.HTML(static), Chart: r.chart(rows, rec), Columns: r.pageColumns(), Layers: layersOf(rows),
		TimedAt: r.timedAt(), Notes: notes,
		HasTraining: slices.ContainsFunc(rows, func(p row) bool { return len(p.Training) > 0 }),
		HasTexts:    slices.ContainsFunc(rows, func(p row) bool { return p.Continuation != "" }),
	}
	if rec.Meets() {
		p.Best = slices.IndexFunc(rows, func(p row) bool { return p.same(rec.Point) })
	}
	for i, row := range rows {
		p.Rows = append(p.Rows, row.pageRow(p.Columns, i == p.Best))
	}
	if g, ok := r.latencies(); ok {
		p.Latencies = &g
	}
	return p, nil
}

// policy allows these scripts, styles in the page, and nothing else.
func policy(scripts ...string) string {
	var allowed []string
	for _, s := range scripts {
		sum := sha256.Sum256([]byte(s))
		allowed = append(allowed, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src " + strings.Join(allowed, " ")
}

// pageColumn is a figure as a column of the table. Shown tells whether it is visible at first.
type pageColumn struct {
	figureKind
	Shown bool
}

// maxShown is the number of figures that fit beside each other.
const maxShown = 6

// pageColumns returns the figures. At first the table has the loss, metrics that are not known here, the time of decoding and the size
// of the KV cache; then others as far as they fit.
func (r Report) pageColumns() []pageColumn {
	var columns []pageColumn
	for _, f := range r.measures() {
		columns = append(columns, pageColumn{figureKind: f})
	}
	shown := 0
	show := func(wanted func(figureKind) bool) {
		for i, c := range columns {
			if !c.Shown && shown < maxShown && wanted(c.figureKind) {
				columns[i].Shown = true
				shown++
			}
		}
	}
	first := []string{"loss", "decode_ms_per_token", "kv_bytes_per_token"}
	show(func(f figureKind) bool { return slices.Contains(first, f.Name) })
	show(func(f figureKind) bool {
		return !slices.ContainsFunc(knownFigures, func(k figureKind) bool { return k.Name == f.Name })
	})
	show(func(f figureKind) bool { return f.percent() || f.Name == "kl" })
	show(func(f figureKind) bool {
		return slices.Contains([]string{"perplexity", "params"}, f.Name)
	})
	return columns
}

// pageRow is a point in the table.
type pageRow struct {
	Point
	Name, Recipe, Trained string
	Base, Best            bool
	Cells                 []pageCell
	Steps                 *gridRow // of the up-training; nil if there is no curve
}

// pageCell is a figure: its value as text, the difference from the baseline, and the number by which rows are sorted.
type pageCell struct {
	Text, Note string
	Sort       any // nil if there is no value
	Noise      bool
	Column     pageColumn
}

func (p row) pageRow(columns []pageColumn, best bool) pageRow {
	out := pageRow{Point: p.Point, Name: p.Name(), Recipe: p.recipe(), Trained: p.training(), Base: p.isBase(), Best: best, Steps: p.steps()}
	for _, c := range columns {
		out.Cells = append(out.Cells, p.pageCell(c))
	}
	return out
}

// pageCell returns the cell of a figure.
func (p row) pageCell(c pageColumn) pageCell {
	texts := p.shortTexts(c.figureKind)
	cell := pageCell{Column: c, Text: texts[0], Note: texts[1]}
	if m, ok := p.metric(c.Name); ok {
		cell.Sort, cell.Noise = m.Value, m.noise() && !c.relative()
	}
	return cell
}

// shortTexts returns the value of a figure, and its difference from the baseline. The standard error is beside the value if that of the
// difference is not known, and instead of a difference if there is none.
func (p row) shortTexts(f figureKind) [2]string {
	value, stderr := p.figureTexts(f)
	note := p.differenceText(f)
	m, _ := p.metric(f.Name)
	switch {
	case stderr != "" && note == "":
		note = "± " + stderr
	case stderr != "" && m.DeltaCI == nil:
		value += " ± " + stderr
	}
	return [2]string{together(value), together(note)}
}

// together keeps an error on the line of its sign, and a ratio on that of its words.
func together(text string) string {
	return strings.NewReplacer("± ", "±\u00a0", "× ± ", "× ±\u00a0", "× ", "×\u00a0").Replace(text)
}

// steps returns the first loss of the up-training, the one half-way and the last, and the number of tokens; nil if they are not known.
func (p Point) steps() *gridRow {
	n := len(p.Training)
	if n == 0 {
		return nil
	}
	line := &gridRow{Name: p.Name()}
	for _, i := range []int{0, n / 2, n - 1} {
		line.Cells = append(line.Cells, units.Significant(p.Training[i][1]))
	}
	line.Cells = append(line.Cells, units.Count(int64(p.Training[n-1][0])))
	return line
}

// layerTable is the errors of layers: a row for each layer, a column for each point that has some.
type layerTable struct {
	Names []string
	Rows  []gridRow
}

// layersOf returns nil if no point has errors of layers.
func layersOf(rows []row) *layerTable {
	rows = slices.DeleteFunc(slices.Clone(rows), func(p row) bool { return len(p.Layers) == 0 })
	if len(rows) == 0 {
		return nil
	}
	var t layerTable
	cells := map[string][]string{}
	for i, p := range rows {
		t.Names = append(t.Names, p.Name())
		for _, l := range p.Layers {
			if cells[l.Name] == nil {
				cells[l.Name] = slices.Repeat([]string{"–"}, len(rows))
				t.Rows = append(t.Rows, gridRow{l.Name, cells[l.Name]})
			}
			cells[l.Name][i] = units.Significant(l.Error)
		}
	}
	return &t
}

// soft lets a long name wrap behind the characters that join its parts.
func soft(text string) template.HTML {
	text = template.HTMLEscapeString(text)
	for _, joint := range []string{"+", "/", "_", "="} {
		text = strings.ReplaceAll(text, joint, joint+"<wbr>")
	}
	return template.HTML(text)
}
