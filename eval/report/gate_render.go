package report

import (
	"fmt"
	"io"
	"strings"
)

// VerdictFormats are the names that [Verdict.Render] accepts.
func VerdictFormats() []string { return []string{"text", "junit", "markdown"} }

// Render writes the verdict: as text with a line for each failure, as JUnit with a test case for each figure, or as Markdown with a
// table.
func (v Verdict) Render(w io.Writer, format string) error {
	switch format {
	case "text":
		return v.text(w)
	case "junit":
		return v.junit(w)
	case "markdown":
		return v.markdown(w)
	}
	return fmt.Errorf("unknown format %q; want one of %s", format, strings.Join(VerdictFormats(), ", "))
}

func (v Verdict) text(w io.Writer) error {
	lines := v.Failures()
	if lines == nil {
		lines = []string{fmt.Sprintf("passed: all %d points of the baseline", v.Points)}
	}
	for _, note := range v.Notes {
		lines = append(lines, "note: "+note)
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

func (v Verdict) junit(w io.Writer) error {
	suite := junitSuite{Name: "gqa-eval gate", Tests: len(v.Checks), Failures: len(v.Failures()), Output: strings.Join(v.Notes, "\n")}
	for _, c := range v.Checks {
		test := junitCase{Class: c.Point, Name: c.name()}
		if c.Failure != "" {
			test.Failure = &junitFailure{c.Failure, "worse", c.Failure}
		}
		suite.Cases = append(suite.Cases, test)
	}
	return suite.write(w)
}

// name returns the name of the metric, or of what was checked in place of one.
func (c Check) name() string {
	if c.Metric == "" {
		return "point"
	}
	return c.Metric
}

// markdown writes the failures, and every figure in a table that can be folded.
func (v Verdict) markdown(w io.Writer) error {
	var out strings.Builder
	if failures := v.Failures(); len(failures) > 0 {
		fmt.Fprintf(&out, "## Gate: failed\n\n%s:\n\n", escape(v.Err().Error()))
		for _, line := range failures {
			fmt.Fprintf(&out, "- %s\n", escape(line))
		}
	} else {
		fmt.Fprintf(&out, "## Gate: passed\n\nAll %d points of the baseline are reached.\n", v.Points)
	}
	for _, note := range v.Notes {
		fmt.Fprintf(&out, "\nNote: %s.\n", escape(note))
	}
	out.WriteString("\n<details><summary>All figures</summary>\n\n| | point | metric | baseline | now | difference | tolerance |\n|---|---|---|---:|---:|---:|---:|\n")
	for _, c := range v.Checks {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(c.cells(), " | "))
	}
	out.WriteString("\n</details>\n")
	_, err := io.WriteString(w, out.String())
	return err
}

// cells returns the row of a check in the table.
func (c Check) cells() []string {
	cells := []string{"passed", escape(c.Point), escape(c.name()), c.format(c.Want.Value), "–", "–", "–"}
	if c.Failure != "" {
		cells[0] = "**failed**"
	}
	if c.Metric == "" {
		cells[3] = "–"
	}
	if c.Got.Better != "" { // a figure, not the lack of one
		cells[4], cells[5], cells[6] = c.format(c.Got.Value), c.difference(), c.format(c.Tolerance)
	}
	return cells
}
