package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/checkpoints"
)

// formats are the forms in which a report can be rendered, with their files.
var formats = []struct {
	name, file string
	render     func(Report, io.Writer) error
}{
	{"html", "report.html", Report.html},
	{"md", "report.md", Report.markdown},
	{"json", File, Report.json},
	{"junit", "junit.xml", Report.junit},
	{"png", "tradeoff.png", Report.png},
	{"svg", "tradeoff.svg", Report.svg},
}

// Formats returns the names that Render accepts.
func Formats() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// Files returns the names of the files that Write writes.
func Files() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.file)
	}
	return names
}

// Render writes the report in one of Formats. The HTML form is self-contained; junit is JUnit XML with one test case per
// point.
func (r Report) Render(w io.Writer, format string) error {
	if err := r.check(); err != nil {
		return err
	}
	for _, f := range formats {
		if f.name == format {
			return f.render(r, w)
		}
	}
	return fmt.Errorf("unknown format %q; want one of %s", format, strings.Join(Formats(), ", "))
}

// Write writes the report in every format into dir, which it creates if necessary: report.json, report.md, report.html,
// junit.xml, tradeoff.svg and tradeoff.png. Each file appears complete or not at all.
func (r Report) Write(dir string) error {
	if err := r.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, f := range formats {
		var out bytes.Buffer
		if err := f.render(r, &out); err != nil {
			return fmt.Errorf("%s: %w", f.file, err)
		}
		if err := checkpoints.WriteFileAtomic(filepath.Join(dir, f.file), out.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r Report) json(w io.Writer) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

func (r Report) markdown(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "# Quality against decode latency: %s\n\n", escape(r.Model))
	fmt.Fprintf(&out, "Corpus: %s. Machine: %s.\n\n", escape(r.Corpus), escape(r.Machine))
	fmt.Fprintf(&out, "%s\n\n![Loss against decode time per token and against KV bytes per token](tradeoff.svg)\n\n", escape(r.conclusion()))
	var titles, rule []string
	for _, c := range columns {
		titles, rule = append(titles, c.Title), append(rule, "---:")
	}
	for _, line := range append([][]string{titles, rule}, r.cells()...) {
		for i, cell := range line {
			line[i] = escape(cell)
		}
		fmt.Fprintf(&out, "| %s |\n", strings.Join(line, " | "))
	}
	fmt.Fprintf(&out, "\n%s\n", notes)
	_, err := io.WriteString(w, out.String())
	return err
}

// escape prevents a text from being parsed as Markdown or from starting a new line.
func escape(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", "[", `\[`).Replace(text)
}

//go:embed html/report.html
var page string

var pageTemplate = template.Must(template.New("report").Parse(page))

func (r Report) html(w io.Writer) error {
	figure, err := r.inlineSVG()
	if err != nil {
		return err
	}
	best, ok := r.best()
	return pageTemplate.Execute(w, map[string]any{
		"Report":     r,
		"Conclusion": r.conclusion(),
		"Figure":     template.HTML(figure),
		"Columns":    columns,
		"Cells":      r.cells(),
		"Notes":      notes,
		"Best":       slices.IndexFunc(r.rows(), func(row row) bool { return ok && row.same(best.Point) }),
	})
}

// The elements of the JUnit schema that a report needs.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class      string          `xml:"classname,attr"`
		Name       string          `xml:"name,attr"`
		Properties []junitProperty `xml:"properties>property"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
)

func (r Report) junit(w io.Writer) error {
	suite := junitSuite{Name: "gqa-eval " + r.Model, Tests: len(r.Points)}
	for _, row := range r.rows() {
		c := junitCase{Class: r.Model, Name: row.Name()}
		properties, err := row.properties()
		if err != nil {
			return err
		}
		c.Properties = append(properties, junitProperty{"corpus", r.Corpus}, junitProperty{"machine", r.Machine})
		suite.Cases = append(suite.Cases, c)
	}
	data, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, data)
	return err
}

// properties returns the figures of a point under the keys of report.json.
func (p Point) properties() (properties []junitProperty, err error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		return nil, err
	}
	for key, value := range values {
		properties = append(properties, junitProperty{key, strings.Trim(string(value), `"`)})
	}
	slices.SortFunc(properties, func(a, b junitProperty) int { return strings.Compare(a.Name, b.Name) })
	return properties, nil
}
