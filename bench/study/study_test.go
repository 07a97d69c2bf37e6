package main

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gqa/internal/sweep"
)

// TestGrid reads the study's own file: every cell occurs once, long runs are first, and recipes change the right
// settings.
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
	r, err := s.recipe(Cell{Model: "gopher-4m", Start: "refined", Groups: 2, Alpha: 0.005, Loss: "kl", Recipe: "short", Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps != 1600 || r.Batch != 1 || r.Schedule.Warmup != 80 || r.Seed != 2 || r.Optimizer.Name != "muon" || r.Optimizer.LR != 2e-4 ||
		r.Schedule.Final != 0.05 || r.Distill.Temperature != 2 || r.Distill.Teacher != "study/gopher-4m" {
		t.Errorf("recipe %+v", r)
	}
}

// TestRun makes a grid of a tiny model, two cells at a time, and then finds no missing cells.
func TestRun(t *testing.T) {
	model := "../../internal/golden/testdata/llama"
	data := filepath.Join(model, "golden.safetensors")
	s := &Study{
		Models: map[string]Model{"m": {Path: model, Data: data, Valid: data, OriginalTokens: 96, Device: "cpu", Train: []string{"optimizer.clip=2"}, Eval: 1, Decode: Decode{1, 8}}},
		Starts: map[string]sweep.Curve{"mean": {Method: "mean"}, "fitted": {Method: "calibrated", Grouping: "similar", Refine: 2}, "mla": {Method: "mla", Refine: 2}},
		Text:   48, Batch: 1, SeqLen: 24, Eval: 2, Points: 2, Curve: 1,
		Grid: []Grid{
			{Models: []string{"m"}, Groups: []int{8, 2}, Starts: []string{"mean", "fitted", "mla"}, Alphas: []float64{0, 0.5}, Losses: []string{"kl"}, Seeds: []int{0, 1}},
		},
	}
	dir := t.TempDir()
	for range 2 {
		held, err := readResults(filepath.Join(dir, resultsFile))
		if err != nil {
			t.Fatal(err)
		}
		r := &runner{study: s, dir: dir, done: held}
		if err := r.run(t.Context(), 2, regexp.MustCompile("g2")); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&runner{study: s, dir: dir}).timeDecodes(t.Context()); err != nil {
		t.Fatal(err)
	}
	results, err := readResults(filepath.Join(dir, resultsFile))
	if err != nil || len(results) != 12 {
		t.Fatalf("%d results, %v; want 12", len(results), err)
	}
	for _, r := range results {
		if r.ValidLoss <= 0 || r.KL <= 0 || (r.Alpha > 0) != (r.Tokens == 48 && len(r.Curve) == 2) {
			t.Errorf("%s: %+v", r.name(), r)
		}
		// 2 layers, 2 heads of 8 numbers, for keys and values, or a latent and a rotary key of as many
		if timed := r.Figures[decodeMS] > 0 && r.Figures[kvBytes] == 2*2*2*8*2; timed != (r.Alpha == 0) {
			t.Errorf("%s: figures %v", r.name(), r.Figures)
		}
	}
}

// TestTables: means and deviations over seeds, the share of the damage undone, and differences over the seeds that both
// rows have.
func TestTables(t *testing.T) {
	cell := func(start string, groups int, alpha float64, seed int, loss float64) Result {
		r := Result{Cell: Cell{Model: "m", Start: start, Groups: groups, Alpha: alpha, Seed: seed}, ValidLoss: loss}
		if alpha > 0 {
			r.Loss = "ce"
		}
		return r
	}
	results := []Result{
		cell("mean", 8, 0, 0, 1), cell("mean", 2, 0, 0, 3), cell("align", 2, 0, 0, 1.5),
		{Cell: Cell{Model: "m", Start: "first", Groups: 2}, Figures: map[string]float64{"kv_bytes": 64, "decode_ms": 0.25, "x_acc": 0.125}},
		cell("mean", 2, 0.05, 0, 1.1), cell("mean", 2, 0.05, 1, 1.3), cell("align", 2, 0.05, 1, 1.2),
	}
	trained := Row{Start: "mean", Loss: "ce", Alpha: 0.05}
	rows := []Row{{Start: "mean"}, {Start: "align"}, trained, {Name: "turned", Start: "align", Loss: "ce", Alpha: 0.05}}
	for _, test := range []struct {
		table Table
		want  string
	}{
		{Table{Groups: []int{8, 2}, Undone: true, Rows: rows[:2]}, "| | g = 8 | g = 2 |\n|---|---|---|\n| mean | 1.0000 | 3.0000 |\n| align | | 1.5000, 75.0% |\n"},
		{Table{Groups: []int{2}, Rows: rows[1:3]}, "| | α | g = 2 |\n|---|---|---|\n| align | – | 1.5000 |\n| mean, ce | 5% | 1.2000 ± 0.1414 |\n"},
		{
			Table{Groups: []int{8, 2}, Rows: []Row{{Start: "first", Figure: "kv_bytes"}, {Start: "first", Figure: "decode_ms"}, {Start: "first", Figure: "x_acc"}}},
			"| | g = 8 | g = 2 |\n|---|---|---|\n| first | | 64 |\n| first | | 0.250 |\n| first | | 12.5% |\n",
		},
		{Table{Groups: []int{2}, Over: &trained, Rows: rows[3:]}, "| | α | g = 2 |\n|---|---|---|\n| turned | 5% | −0.100 |\n"},
		{Table{Groups: []int{2}, Over: &Row{Start: "mean", Whole: true}, Rows: rows[2:3]}, "| | α | g = 2 |\n|---|---|---|\n| mean, ce | 5% | +0.200 ± 0.141 |\n"},
	} {
		test.table.Model = "m"
		if got, err := test.table.markdown(results); err != nil || got != test.want {
			t.Errorf("%v, got\n%swant\n%s", err, got, test.want)
		}
	}
	if _, err := (Table{Model: "m", Groups: []int{2}, Rows: []Row{{Start: "random"}}}).markdown(results); err == nil {
		t.Error("a row without results is no error")
	}
}

// TestRegions: a document has one region for each table and no others.
func TestRegions(t *testing.T) {
	s := &Study{Tables: []Table{{Name: "a", Model: "m", Groups: []int{8}, Rows: []Row{{Start: "mean"}}}}}
	results := []Result{{Cell: Cell{Model: "m", Start: "mean", Groups: 8}, ValidLoss: 1}}
	const stale, other = "x\n<!-- table: a -->\nold\n<!-- end -->\ny\n", "<!-- table: b -->\n<!-- end -->\n"
	got, err := s.fill([]byte(stale), results)
	if want := "x\n<!-- table: a -->\n| | g = 8 |\n|---|---|\n| mean | 1.0000 |\n<!-- end -->\ny\n"; err != nil || string(got) != want {
		t.Errorf("%v, got\n%s", err, got)
	}
	for _, bad := range []string{"", stale + other, stale + stale} {
		if _, err := s.fill([]byte(bad), results); err == nil {
			t.Errorf("no error of %q", bad)
		}
	}
}

// TestReport: the document, and the up-trainings selected by each plot.
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
	if err := os.WriteFile(prefix+".md", []byte("# A study\n"), 0o666); err != nil {
		t.Fatal(err)
	}
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
