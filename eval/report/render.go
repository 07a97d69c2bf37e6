package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	{"csv", "report.csv", Report.csv},
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

// Files returns the names of the files of a report: those that Write writes, and the scores.
func Files() []string {
	names := []string{ScoresFile}
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
// report.csv, junit.xml, tradeoff.svg and tradeoff.png. Each file appears complete or not at all.
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
