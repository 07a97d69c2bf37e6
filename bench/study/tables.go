package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Table is one table of the study's document, between <!-- table: NAME --> and <!-- end -->.
type Table struct {
	Name   string `yaml:"name"`
	Model  string `yaml:"model"`  // of every row that names none
	Groups []int  `yaml:"groups"` // the columns
	Undone bool   `yaml:"undone"` // also show which share of the mean's damage a conversion undoes
	Over   *Row   `yaml:"over"`   // show differences from this row instead of losses
	Rows   []Row  `yaml:"rows"`
}

// Row selects the results in a row of a table.
type Row struct {
	Name   string  `yaml:"name"` // empty: the start and how it was up-trained
	Model  string  `yaml:"model"`
	Start  string  `yaml:"start"`
	Loss   string  `yaml:"loss"`
	Recipe string  `yaml:"recipe"`
	Alpha  float64 `yaml:"alpha"`
	Whole  bool    `yaml:"whole"`  // of the model with all its KV heads, whatever the column
	Figure string  `yaml:"figure"` // of Result.Figures, shown instead of the loss
}

// label returns the name of a row, or what was done.
func (r Row) label() string {
	if r.Name != "" || r.Alpha == 0 {
		return cmp.Or(r.Name, r.Start)
	}
	return r.Start + ", " + Cell{Loss: r.Loss, Recipe: r.Recipe}.way()
}

// values returns the losses of a row in a column, or its figures, by seed.
func (r Row) values(rs []Result, groups int) map[int]float64 {
	if r.Whole {
		groups = heads(rs)
	}
	want, found := Cell{Start: r.Start, Groups: groups, Alpha: r.Alpha, Loss: r.Loss, Recipe: r.Recipe}, map[int]float64{}
	for _, result := range rs {
		want.Model, want.Seed = result.Model, result.Seed
		if result.Cell != want {
			continue
		}
		if r.Figure == "" {
			found[result.Seed] = result.ValidLoss
		} else if x, ok := result.Figures[r.Figure]; ok {
			found[result.Seed] = x
		}
	}
	return found
}

// markdown returns the table in the document's form.
func (t Table) markdown(results []Result) (string, error) {
	var text strings.Builder
	trained := t.trained()
	text.WriteString("| |" + map[bool]string{true: " α |"}[trained])
	for _, g := range t.Groups {
		fmt.Fprintf(&text, " g = %d |", g)
	}
	columns := len(t.Groups) + map[bool]int{true: 1}[trained]
	text.WriteString("\n|---|" + strings.Repeat("---|", columns) + "\n")
	for _, row := range t.Rows {
		line, err := t.line(row, of(results, cmp.Or(row.Model, t.Model)), trained)
		if err != nil {
			return "", fmt.Errorf("table %s: %w", t.Name, err)
		}
		text.WriteString(line)
	}
	return text.String(), nil
}

// trained reports whether a row was up-trained. Its length is then in a column.
func (t Table) trained() bool {
	for _, row := range t.Rows {
		if row.Alpha > 0 {
			return true
		}
	}
	return false
}

// line returns one row of a table. A row without any result is an error in the study's file.
func (t Table) line(row Row, rs []Result, trained bool) (string, error) {
	line, filled := "| "+row.label()+" |", false
	if trained {
		line += " " + percent(row.Alpha) + " |"
	}
	for _, g := range t.Groups {
		cell := ""
		if !row.Whole || g == heads(rs) {
			cell = t.cell(row, rs, g)
		}
		line, filled = line+strings.TrimRight(" "+cell, " ")+" |", filled || cell != ""
	}
	if !filled {
		return "", fmt.Errorf("no results of row %q", row.label())
	}
	return line + "\n", nil
}

// cell returns the entry of a row in a column; empty if there is no result.
func (t Table) cell(row Row, rs []Result, groups int) string {
	losses := row.values(rs, groups)
	if row.Figure != "" {
		return row.figure(meanOf(losses))
	}
	if t.Over != nil {
		x, sd, n := meanOf(differences(losses, t.Over.values(rs, groups), t.Over.Alpha == 0))
		return signed(x, sd, n)
	}
	x, sd, n := meanOf(losses)
	cell := plusMinus(x, sd, n)
	if t.Undone && n > 0 && groups < heads(rs) && row.Start != "mean" {
		original, _, _ := meanOf(Row{Start: "mean", Whole: true}.values(rs, groups))
		worst, _, _ := meanOf(Row{Start: "mean"}.values(rs, groups))
		cell += fmt.Sprintf(", %.1f%%", 100*(worst-x)/(worst-original))
	}
	return strings.ReplaceAll(cell, "-", minus)
}

// heads returns the original number of KV heads, which is the largest of all results.
func heads(rs []Result) int { return distinct(rs, func(r Result) int { return r.Groups })[0] }

// differences returns the differences of two rows at each seed that both have. A conversion does not depend on the order
// of windows, so its single loss applies to all seeds.
func differences(losses, over map[int]float64, conversion bool) map[int]float64 {
	d := map[int]float64{}
	for seed, loss := range losses {
		other, ok := over[seed]
		if conversion {
			other, ok = over[0]
		}
		if ok {
			d[seed] = loss - other
		}
	}
	return d
}

// meanOf returns the mean over seeds, with the standard deviation.
func meanOf(bySeed map[int]float64) (mean, sd float64, n int) {
	n = len(bySeed)
	seeds := slices.Sorted(maps.Keys(bySeed)) // so that sums round in one way
	for _, s := range seeds {
		mean += bySeed[s] / float64(n)
	}
	for _, s := range seeds {
		sd += (bySeed[s] - mean) * (bySeed[s] - mean) / float64(max(1, n-1))
	}
	return mean, math.Sqrt(sd), n
}

// figure formats a mean of the row's figure over n seeds.
func (r Row) figure(x, _ float64, n int) string {
	switch {
	case n == 0:
		return ""
	case r.Figure == kvBytes:
		return fmt.Sprintf("%.0f", x)
	case r.Figure == decodeMS:
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.1f%%", 100*x) // an accuracy
}

func plusMinus(x, sd float64, n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%.4f", x)
	}
	return fmt.Sprintf("%.4f ± %.4f", x, sd)
}

const minus = "−" // as long as the plus

// signed formats a difference.
func signed(x, sd float64, n int) string {
	if n == 0 {
		return ""
	}
	text := strings.ReplaceAll(fmt.Sprintf("%+.3f", x), "-", minus)
	if n > 1 {
		text += fmt.Sprintf(" ± %.3f", sd)
	}
	return text
}

// percent formats a share of the original tokens; a dash for none.
func percent(alpha float64) string {
	if alpha == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*alpha, 'g', 4, 64) + "%"
}

var region = regexp.MustCompile(`(?s)<!-- table: (\S+) -->\n.*?<!-- end -->`)

// fill writes the study's tables into a document's regions. Regions and tables must correspond to each other.
func (s *Study) fill(document []byte, results []Result) ([]byte, error) {
	tables := map[string]string{}
	for _, t := range s.Tables {
		text, err := t.markdown(results)
		if err != nil {
			return nil, err
		}
		tables[t.Name] = text
	}
	var failed error
	filled := region.ReplaceAllFunc(document, func(old []byte) []byte {
		name := string(region.FindSubmatch(old)[1])
		text, ok := tables[name]
		if !ok {
			failed = fmt.Errorf("no table %q in the study's file, or two regions of it", name)
		}
		delete(tables, name)
		return fmt.Appendf(nil, "<!-- table: %s -->\n%s<!-- end -->", name, text)
	})
	for name := range tables {
		failed = fmt.Errorf("no region for table %q", name)
	}
	return filled, failed
}

// writeTables updates the regions of a document.
func (s *Study) writeTables(path string, results []Result) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	filled, err := s.fill(old, results)
	if err != nil || bytes.Equal(old, filled) {
		return err
	}
	return os.WriteFile(path, filled, 0o666)
}
