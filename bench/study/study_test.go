package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGrid reads the study's own file: every cell once, the long runs first, flags with a model's paths in them.
func TestGrid(t *testing.T) {
	s, err := loadStudy("../../docs/study.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	last := math.MaxInt
	for _, c := range s.cells() {
		if seen[c.name()] {
			t.Errorf("%s twice", c.name())
		}
		seen[c.name()] = true
		if n := s.tokens(c); n > last || (c.Alpha > 0) != (n > 0) {
			t.Errorf("%s has %d tokens, after %d", c.name(), n, last)
		} else {
			last = n
		}
	}
	if !seen["gopher-4m-mean-g4-s0"] || !seen["gopher-4m-refined-g1-s2-a0.005-kl"] {
		t.Error("cells are missing")
	}
	m := s.Models["gopher-4m"]
	if got := strings.Join(m.expand(s.Starts["align"]), " "); got != "--method align --calibration "+m.Data {
		t.Errorf("flags %s", got)
	}
}

func TestTables(t *testing.T) {
	s := &Study{Grid: []Grid{{Starts: []string{"mean", "align"}}}}
	cell := func(start string, groups int, alpha float64, seed int, loss float64) Result {
		r := Result{Cell: Cell{Model: "m", Start: start, Groups: groups, Alpha: alpha, Seed: seed}, ValidLoss: loss}
		if alpha > 0 {
			r.Loss = "ce"
		}
		return r
	}
	results := []Result{
		cell("mean", 8, 0, 0, 1), cell("mean", 2, 0, 0, 3), cell("align", 2, 0, 0, 1.5),
		cell("mean", 2, 0.05, 0, 1.1), cell("mean", 2, 0.05, 1, 1.3),
	}
	var text strings.Builder
	s.starts(&text, results)
	s.trained(&text, results)
	for _, want := range []string{
		"the model itself: 1.0000", "| mean | 3.0000 | 0.0% |", "| align | 1.5000 | 75.0% |", "| mean, ce | 2 | 1.2000 ± 0.1414 |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

// TestReport: tables, and of each plot the up-trainings that it asks for.
func TestReport(t *testing.T) {
	s := &Study{
		Models: map[string]Model{"m": {}}, Grid: []Grid{{Starts: []string{"mean", "align"}}},
		Plots: map[string]Plot{"brief": {Alphas: []float64{0.005}, Losses: []string{"ce"}}, "long": {Alphas: []float64{0.05}}},
	}
	var results []Result
	for _, c := range []Cell{
		{Start: "mean", Groups: 8},
		{Start: "mean", Groups: 8, Alpha: 0.05, Loss: "ce"},
		{Start: "mean", Groups: 2, Alpha: 0.005, Loss: "ce"},
		{Start: "align", Groups: 2, Alpha: 0.005, Loss: "kl"},
		{Start: "align", Groups: 2, Alpha: 0.05, Loss: "kl", Recipe: "far"},
	} {
		c.Model = "m"
		results = append(results, Result{Cell: c, Tokens: 2e6, Curve: []Point{{1e6, 2}, {2e6, 1.5}}})
	}
	prefix := filepath.Join(t.TempDir(), "s")
	if err := s.report(prefix, results); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2][]string{ // in the plot, not in it
		"brief": {{"mean, ce"}, {"align", "the model itself"}},
		"long":  {{"align, kl, far", "the model itself, ce"}, {"mean, ce", "align, kl<"}},
	} {
		text, err := os.ReadFile(prefix + "-m-g2-" + name + ".svg")
		if err != nil {
			t.Fatal(err)
		}
		for i, names := range want {
			for _, n := range names {
				if strings.Contains(string(text), ">"+n) != (i == 0) {
					t.Errorf("plot %s: %q there is %v", name, n, i > 0)
				}
			}
		}
	}
	if files, _ := filepath.Glob(prefix + "*"); len(files) != 3 {
		t.Errorf("files %v", files)
	}
}
