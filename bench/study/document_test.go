package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDocument compares the tables of docs/study.md with the results: each figure must be there as the report prints it, and each
// result of a row must be in the row.
func TestDocument(t *testing.T) {
	results, err := readResults("../../docs/study.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/study.md")
	if err != nil {
		t.Fatal(err)
	}
	models := []string{"gopher-4m", "neox-6m", "gpt2-6m", "gopher-12m"} // as they come in the document
	var groups []int
	var model, label string
	var trained bool // whether rows are of up-trainings
	checked := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " |")
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "*", "")
		}
		switch {
		case strings.HasPrefix(line, "### "):
			models, model = nil, "" // torch's
		case strings.HasPrefix(line, "| start | g = "):
			model, models, groups, trained = models[0], models[1:], headings(cells[1:]), false
		case strings.HasSuffix(cells[0], "start, loss"):
			if model, _, _ = strings.Cut(cells[0], ": "); model == cells[0] {
				model = "gopher-4m"
			}
			groups, trained = headings(cells[2:]), true
		case !strings.HasPrefix(line, "| ") || model == "":
		case !trained:
			groups, start := groups, strings.Split(cells[0], ":")[0]
			if start == "the model itself" {
				start, groups = "mean", distinct(of(results, model), func(r Result) int { return r.Groups })[:1]
			}
			for i, g := range groups {
				checked += compare(t, cells[1+i], of(results, model), start, "", g, 0)
			}
		default:
			if cells[0] != "" {
				label, _, _ = strings.Cut(cells[0], ":")
			}
			alpha, err := strconv.ParseFloat(cells[1], 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			start, way, _ := strings.Cut(label, ", ")
			groups := groups
			if start == "the model itself" {
				start, groups = "mean", []int{8} // the sample's alone
				if way == "trained on" {
					way = "ce"
				}
			}
			for i, g := range groups {
				checked += compare(t, cells[2+i], of(results, model), start, way, g, alpha)
			}
		}
	}
	if checked < 150 {
		t.Errorf("%d figures were found", checked)
	}
}

// headings are the numbers of columns "g = 4".
func headings(cells []string) (groups []int) {
	for _, c := range cells {
		g, _ := strconv.Atoi(strings.TrimPrefix(c, "g = "))
		groups = append(groups, g)
	}
	return groups
}

var figure = regexp.MustCompile(`^[\d.]+( ± [\d.]+)?`)

// compare returns 1 for a cell that holds a figure.
func compare(t *testing.T, cell string, rs []Result, start, way string, groups int, alpha float64) int {
	t.Helper()
	loss, sd, n := mean(rs, start, way, groups, alpha)
	want, got := plusMinus(loss, sd, n), figure.FindString(cell)
	if strings.Contains(want, "±") && alpha == 0 { // one digit less
		want = fmt.Sprintf("%.3f ± %.3f", loss, sd)
	}
	if got != want {
		t.Errorf("%s, %s, g = %d, α = %v: %q in the document, %q of the results", start, way, groups, alpha, got, want)
	}
	if got == "" {
		return 0
	}
	return 1
}
