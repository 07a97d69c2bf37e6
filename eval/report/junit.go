package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
)

// The elements of the JUnit schema that reports and verdicts need.
type (
	junitSuite struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
		Output   string      `xml:"system-out,omitempty"`
	}
	junitCase struct {
		Class      string          `xml:"classname,attr"`
		Name       string          `xml:"name,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Failure    *junitFailure   `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"` // some programs show this, others the message
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
)

func (r Report) junit(w io.Writer) error {
	suite := junitSuite{Name: "gqa-eval " + r.Model, Tests: len(r.Points)}
	for _, p := range r.rows() {
		properties := append(r.properties(p), junitProperty{"corpus", r.Corpus}, junitProperty{"machine", r.Machine})
		suite.Cases = append(suite.Cases, junitCase{Class: r.Model, Name: p.Name(), Properties: properties})
	}
	return suite.write(w)
}

func (s junitSuite) write(w io.Writer) error {
	data, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, data)
	return err
}

// properties returns how a point was made and all of its figures, under the keys of report.json. The interval of a figure's difference
// from the baseline, if known, is in NAME.delta_ci.
func (r Report) properties(p row) []junitProperty {
	all := []junitProperty{{"method", p.Method}}
	if p.Recipe != "" {
		all = append(all, junitProperty{"recipe", p.Recipe})
	}
	all = append(all, junitProperty{"batch", strconv.Itoa(p.Batch)}, junitProperty{"context", strconv.Itoa(p.Context)})
	for _, f := range r.figures() {
		m, ok := p.metric(f.Name)
		if !ok {
			continue
		}
		all = append(all, junitProperty{f.Name, plain(m.Value)})
		if m.Stderr > 0 {
			all = append(all, junitProperty{f.Name + ".stderr", plain(m.Stderr)})
		}
		if m.DeltaCI != nil {
			all = append(all, junitProperty{f.Name + ".delta_ci", fmt.Sprintf("%s to %s", plain(m.DeltaCI[0]), plain(m.DeltaCI[1]))})
		}
	}
	return all
}
