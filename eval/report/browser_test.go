package report

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBrowser opens pages in a browser: see browser/test.mjs. It needs Chromium, Node.js and the packages of browser/package-lock.json;
// "make browser" installs these and runs it. GQA_BROWSER is the path of Chromium, and GQA_SCREENSHOTS a folder for pictures of the pages.
func TestBrowser(t *testing.T) {
	browser := os.Getenv("GQA_BROWSER")
	if browser == "" {
		t.Skip("GQA_BROWSER is not set: run make browser")
	}
	dir := t.TempDir()
	for name, r := range browserReports(t) {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(render(t, r, "html")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "node", "test.mjs", browser, dir, os.Getenv("GQA_SCREENSHOTS"))
	cmd.Dir = "browser"
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// browserReports returns reports of 1, 8, 14 and 200 points, of which the third has everything that a report can have, and the first
// almost nothing. The second has two batch sizes.
func browserReports(t *testing.T) map[string]Report {
	t.Helper()
	one := Report{Model: "m", Corpus: "c", Machine: "x", Points: []Point{point(8, "mha", 0, 2, 4)}}
	full, err := Read("../../docs/sweep/report.json")
	if err != nil {
		t.Fatal(err)
	}
	full.Version, full.Program, full.Date = Version, "gqa-eval v1.2.3, commit 0123456789ab, go1.26.8", "2026-12-01T10:00:00Z"
	full.Commands = []string{"gqa-eval sweep --model a-model --data corpus.jsonl --valid held-out.txt --groups 8,4,2,1 -o a-sweep"}
	full.Prompt = "func (r *Reader) ReadByte() (byte, error) {\n\tr.prevRune = -1\n"
	full.Rules = &Rules{MaxLoss: 0.15, MaxKV: 0.6, MinSpeedup: 1.2}
	for i := range full.Points {
		fill(&full.Points[i], full.Points[0], i)
	}
	return map[string]Report{"1": one, "8": twoBatches(), "14": full, "200": manyPoints()}
}

// fill gives a point everything that a point can have.
func fill(p *Point, base Point, i int) {
	metric := func(value, from, half float64, unit, better string) Metric {
		m := Metric{Value: value, Stderr: half * 2, N: 20440, Unit: unit, Better: better}
		if delta := value - from; i > 0 {
			m.Delta, m.DeltaCI = &delta, &[2]float64{delta - half, delta + half}
		}
		return m
	}
	p.Metrics = map[string]Metric{
		"loss":                 metric(p.Loss, base.Loss, 0.007, "nats/token", Lower),
		"token_accuracy":       metric(0.58-0.1*(p.Loss-base.Loss), 0.58, 0.01, "share of tokens", Higher),
		"decode_ms_per_token":  metric(p.DecodeMsPerToken, base.DecodeMsPerToken, 0.02, "ms", Lower),
		"closing_bracket/acc":  metric(0.7-0.05*float64(i%5), 0.7, 0.06, "share of items", Higher),
		"identifier_next_rank": metric(3+float64(i%4), 3, 0.5, "", Lower),
	}
	p.Continuation = "\tif r.i >= int64(len(r.s)) {\n\t\treturn 0, io.EOF\n\t}\n\tb := r.s[r.i]\n\tr.i++\n\treturn b, nil\n}\n"
	if i == 0 {
		return
	}
	p.Folder = fmt.Sprintf("a-sweep/runs/%d-%s/model", p.Groups, p.recipe())
	p.Command = fmt.Sprintf("gqa-convert --groups %d --method %s -o a-sweep/models/%d-%s a-model\ngqa-train run --config a-sweep/runs/%d-%s/recipe.yaml",
		p.Groups, p.Method, p.Groups, p.recipe(), p.Groups, p.recipe())
	p.Layers, p.Training = nil, nil
	for layer := range 8 {
		p.Layers = append(p.Layers, LayerError{fmt.Sprintf("%d", layer), 0.02 * float64(layer+1) / float64(p.Groups)})
	}
	if p.Alpha > 0 {
		for step := range 80 {
			p.Training = append(p.Training, [2]float64{float64(step+1) * 2048, p.Loss + math.Exp(-float64(step)/20)})
		}
	}
}

// twoBatches is a report of four models, each timed at two batch sizes.
func twoBatches() Report {
	r := Report{Model: "m", Corpus: "c", Machine: "x"}
	for _, batch := range []int{1, 8} {
		for _, p := range []Point{point(8, "mha", 0, 2, 4), point(4, "mean", 0, 2.3, 2), point(2, "mean", 0, 2.6, 1.2), point(4, "align", 0, 2.05, 2)} {
			p.Batch, p.DecodeMsPerToken = batch, p.DecodeMsPerToken/float64(batch)+1
			r.Points = append(r.Points, p)
		}
	}
	return r
}

// manyPoints is a report of 200 points: ten recipes, four lengths of up-training, five numbers of groups, and long names.
func manyPoints() Report {
	r := Report{Model: "a-model-with-a-very-long-name-that-has-to-wrap-somewhere (llama, 7.242B parameters, 32 heads)", Corpus: "/data/corpora/held-out/a/rather/long/path/to/validation.jsonl", Machine: "NVIDIA H200"}
	for i := range 10 {
		recipe := fmt.Sprintf("calibrated+similar+refine=%d+mixed", 100*i)
		for j, alpha := range []float64{0, 0.001, 0.01, 0.05} {
			for _, groups := range []int{32, 16, 8, 4, 1} {
				p := withRecipe(point(groups, "calibrated", alpha, 1.7+0.9/float64(groups)/(1+float64(j))+0.01*float64(i), 4+float64(groups)), recipe)
				p.UptrainTokens = int64(alpha * 2e12)
				r.Points = append(r.Points, p)
			}
		}
	}
	r.Points[0].Method, r.Points[0].Recipe = MethodMHA, ""
	return r
}
