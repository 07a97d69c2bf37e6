package report

import (
	"bytes"
	"encoding/xml"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/eval"
)

// figure is the mean of some items, whose values differ by spread.
func figure(r *rand.Rand, mean, spread float64, unit, better string) eval.Figure {
	const n = 40
	f := eval.Figure{Unit: unit, Better: better, Items: "forty " + unit}
	f.N, f.Stderr = n, spread/math.Sqrt(n)
	for range n {
		f.Scores.Values = append(f.Scores.Values, mean+spread*r.NormFloat64())
		f.Scores.Weights = append(f.Scores.Weights, 1)
	}
	f.Value = average(f.Scores.Values)
	return f
}

func average(x []float64) (sum float64) {
	for _, v := range x {
		sum += v / float64(len(x))
	}
	return sum
}

// worse returns a figure whose items are larger by about delta.
func worse(r *rand.Rand, f eval.Figure, delta, spread float64) eval.Figure {
	f.Scores.Values = slices.Clone(f.Scores.Values)
	for i := range f.Scores.Values {
		f.Scores.Values[i] += delta + spread*r.NormFloat64()
	}
	f.Value = average(f.Scores.Values)
	return f
}

// scored is a report of one point that was not up-trained.
func scored(figures map[string]eval.Figure) Scored {
	p := point(8, "mha", 0, figures["loss"].Value, 2)
	p.Metrics = map[string]Metric{"kv_bytes_per_token": {Value: 8192, N: 1, Unit: "bytes", Better: Lower}}
	for name, f := range figures {
		p.Metrics[name] = Metric{Value: f.Value, Stderr: f.Stderr, N: f.N, Unit: f.Unit, Better: f.Better}
	}
	s := &Scores{}
	s.Add(figures)
	return Scored{Report{Version: Version, Model: "m", Corpus: "c", Machine: "x", Points: []Point{p}}, s}
}

// A figure fails if it is beyond the tolerance and its paired interval beyond zero, whatever it is called. The sign of "worse" is the
// metric's.
func TestGateInPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	loss, made := figure(r, 2, 0.3, "nats/token", Lower), figure(r, 0.6, 0.4, "share of items", Higher)
	base := scored(map[string]eval.Figure{"loss": loss, "made_up": made})
	for name, c := range map[string]struct {
		loss, made eval.Figure
		want       []string
	}{
		"the same":             {loss, made, nil},
		"worse, in the spread": {worse(r, loss, 0.05, 0.5), made, nil},
		"worse, and it is so":  {worse(r, loss, 0.02, 0.01), made, []string{"g=8 mha: loss: got "}},
		"within the tolerance": {worse(r, loss, 0.009, 0.001), made, nil},
		"better":               {worse(r, loss, -0.5, 0.01), worse(r, made, 0.2, 0.01), nil},
		"another metric":       {loss, worse(r, made, -0.03, 0.02), []string{"g=8 mha: made_up: got "}},
		"that, not as surely":  {loss, worse(r, made, -0.03, 0.3), nil},
		"both, as they come":   {worse(r, loss, 1, 0.1), worse(r, made, -0.5, 0.1), []string{"g=8 mha: loss: ", "g=8 mha: made_up: "}},
	} {
		v, err := Gate(scored(map[string]eval.Figure{"loss": c.loss, "made_up": c.made}), base, DefaultLimits)
		got := v.Failures()
		if err != nil || len(v.Notes) > 0 || !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s: %v, notes %q, failures %q, want %q", name, err, v.Notes, got, c.want)
		}
	}
	gone := scored(map[string]eval.Figure{"loss": loss})
	if v, err := Gate(gone, base, DefaultLimits); err != nil || !slices.Equal(v.Failures(), []string{"g=8 mha: made_up: the report has no such metric"}) {
		t.Errorf("a metric is gone: %v, %q", err, v.Failures())
	}
	if v, err := Gate(base, gone, DefaultLimits); err != nil || v.Err() != nil {
		t.Errorf("a metric is new: %v, %v", err, v.Err())
	}
}

// Of many figures that do not differ but by chance, hardly ever one fails.
func TestGateOfManyFigures(t *testing.T) {
	r, failed := rand.New(rand.NewPCG(7, 8)), 0
	const runs = 40
	for range runs {
		before, after := map[string]eval.Figure{"loss": figure(r, 2, 0.3, "nats/token", Lower)}, map[string]eval.Figure{}
		for i := range 60 {
			before[string(rune('a'+i))] = figure(r, 0.5, 0.5, "share of items", Higher)
		}
		for name, f := range before {
			after[name] = worse(r, f, 0, 0.4)
		}
		if v, err := Gate(scored(after), scored(before), DefaultLimits); err != nil || v.Err() != nil {
			failed++
		}
	}
	if failed > runs/8 { // most would at 95% for each figure; 1 in 40 is expected
		t.Errorf("%d of %d repeats fail", failed, runs)
	}
}

func TestGateOfOtherItems(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	f := figure(r, 2, 0.3, "nats/token", Lower)
	base := scored(map[string]eval.Figure{"loss": f})
	f.Items = "others"
	other := scored(map[string]eval.Figure{"loss": worse(r, f, 0.1, 0.01)})
	if _, err := Gate(other, base, DefaultLimits); err == nil || !strings.Contains(err.Error(), "other windows or items (loss: n 40, others)") {
		t.Errorf("got %v", err)
	}
	limits := DefaultLimits
	limits.AllowOtherCorpus = true
	if v, err := Gate(other, base, limits); err != nil || v.Err() != nil || len(v.Notes) != 1 {
		t.Errorf("a rise of a third of the spread: %v, %v, notes %q", err, v.Err(), v.Notes)
	}

	// The same windows are the same corpus, by whatever path it was read.
	moved := base
	moved.Corpus = "elsewhere"
	if v, err := Gate(moved, base, DefaultLimits); err != nil || v.Err() != nil || len(v.Notes) > 0 {
		t.Errorf("the same windows: %v, %v, notes %q", err, v.Err(), v.Notes)
	}
}

// Figures in other units, or with another sign, are not compared.
func TestGateOfOtherUnits(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	loss, f := figure(r, 2, 0.3, "nats/token", Lower), figure(r, 0.6, 0.1, "share of items", Higher)
	base := scored(map[string]eval.Figure{"loss": loss, "x_acc": f})
	f.Better = Lower
	v, err := Gate(scored(map[string]eval.Figure{"loss": loss, "x_acc": f}), base, DefaultLimits)
	want := `g=8 mha: x_acc: the report has it in "share of items", lower is better; want "share of items", higher, as the baseline`
	if err != nil || !slices.Equal(v.Failures(), []string{want}) {
		t.Errorf("got %q (%v), want %q", v.Failures(), err, want)
	}
}

func TestScoresFile(t *testing.T) {
	r, dir := rand.New(rand.NewPCG(11, 12)), t.TempDir()
	want := scored(map[string]eval.Figure{"loss": figure(r, 2, 0.3, "nats/token", Lower), "acc": figure(r, 0.6, 0.4, "share of items", Higher)})
	write := func(r Report, s *Scores) {
		if err := r.Write(dir); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	write(want.Report, want.Scores)
	for _, path := range []string{dir, filepath.Join(dir, File)} {
		got, err := ReadScored(path)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := Gate(got, want, Limits{Tolerances: map[string]float64{"loss": 0}}); err != nil || v.Err() != nil || len(v.Notes) > 0 {
			t.Errorf("%v, %v, notes %q", err, v.Err(), v.Notes)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, ScoresFile)); err != nil || info.Size() > 2*40*14+300 {
		t.Errorf("80 scores take %d bytes (%v)", info.Size(), err)
	}

	changed := want.Report
	changed.Points = slices.Clone(changed.Points)
	changed.Points[0].Metrics = map[string]Metric{"loss": want.Points[0].Metrics["loss"], "acc": {Value: 0.1, Better: Higher}}
	for name, change := range map[string]func(){
		"they do not belong together": func() { write(changed, want.Scores) },
		"version 9":                   func() { write(want.Report, &Scores{Version: 9}) },
		"has no scores":               func() { write(want.Report, &Scores{Version: scoresVersion}) },
		"not scores":                  func() { os.WriteFile(filepath.Join(dir, ScoresFile), []byte("{"), 0o666) },
	} {
		change()
		if _, err := ReadScored(dir); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), ScoresFile) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
	if err := os.Remove(filepath.Join(dir, ScoresFile)); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadScored(dir); err != nil || got.Scores != nil {
		t.Errorf("no scores: %+v, %v", got.Scores, err)
	}
}

// A metric that a point lacks leaves the others in their places.
func TestScoresOfPointsWithOtherMetrics(t *testing.T) {
	one := func(x float64) eval.Figure {
		return eval.Figure{Estimate: eval.Estimate{Value: x}, Scores: eval.Scores{Values: []float64{x}, Weights: []float64{1}}}
	}
	median := eval.Figure{Estimate: eval.Estimate{Value: 2}, Scores: eval.Scores{Values: []float64{1, 2, 9}, Weights: []float64{1, 1, 1}}}
	s := &Scores{}
	s.Add(map[string]eval.Figure{"time": median})
	s.Add(map[string]eval.Figure{"loss": one(1), "time": {}})
	s.Add(map[string]eval.Figure{"loss": one(2), "acc": one(3)})
	s.Add(map[string]eval.Figure{"loss": one(4), "time": median})
	for name, want := range map[string][]float64{"loss": {0, 1, 2, 4}, "acc": {0, 0, 3, 0}} {
		for i, x := range want {
			if got := s.of(i, name).Values; x == 0 && got != nil || x > 0 && !slices.Equal(got, []float64{x}) {
				t.Errorf("%s of point %d: %v, want %v", name, i, got, x)
			}
		}
	}
	if _, ok := s.Metrics["time"]; ok {
		t.Error("a figure that is not a mean of items has scores")
	}
}

func TestVerdictFormats(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	loss := figure(r, 2, 0.3, "nats/token", Lower)
	base := scored(map[string]eval.Figure{"loss": loss})
	base.Points = append(base.Points, point(2, "a|b", 0, 3, 1))
	base.Points[1].Metrics = map[string]Metric{"loss": base.Points[0].Metrics["loss"], "kv_bytes_per_token": {Value: 2048, N: 1, Unit: "bytes", Better: Lower}}
	base.Points[1].Loss = base.Points[0].Loss
	base.Scores.Add(map[string]eval.Figure{"loss": loss})
	v, err := Gate(scored(map[string]eval.Figure{"loss": worse(r, loss, 0.1, 0.01)}), base, DefaultLimits)
	if err != nil || len(v.Failures()) != 2 {
		t.Fatalf("%v, %q", err, v.Failures())
	}
	v.Notes = []string{"a note"}
	out := map[string]string{}
	for _, format := range VerdictFormats() {
		var b bytes.Buffer
		if err := v.Render(&b, format); err != nil {
			t.Error(err)
		}
		out[format] = b.String()
	}
	if want := strings.Join(v.Failures(), "\n") + "\nnote: a note\n"; out["text"] != want {
		t.Errorf("text %q, want %q", out["text"], want)
	}
	var suite junitSuite
	if err := xml.Unmarshal([]byte(out["junit"]), &suite); err != nil || suite.Tests != 3 || suite.Failures != 2 || suite.Output != "a note" ||
		suite.Cases[1].Failure.Text != v.Checks[1].Failure || suite.Cases[0].Failure != nil || suite.Cases[2].Name != "point" {
		t.Errorf("%v in %s", err, out["junit"])
	}
	for _, want := range []string{"## Gate: failed\n", `- g=2 a\|b: the report has no such point` + "\n", "\nNote: a note.\n", `| passed | g=8 mha | kv\_bytes\_per\_token | 8192 | 8192 | 0 | 0 |` + "\n", `| **failed** | g=2 a\|b | point | – | – | – | – |` + "\n"} {
		if !strings.Contains(out["markdown"], want) {
			t.Errorf("%q is not in %s", want, out["markdown"])
		}
	}
	if err := v.Render(&bytes.Buffer{}, "nosuch"); err == nil {
		t.Error("an unknown format")
	}
}
