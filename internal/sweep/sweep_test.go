package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/eval/report"
	"gqa/eval/tasks"
	"gqa/internal/golden"
	"gqa/train"
)

// small returns options for a sweep over the sample that takes a second or two.
func small(t *testing.T) Options {
	t.Helper()
	r, err := recipe.Load("sweep")
	if err != nil {
		t.Fatal(err)
	}
	r.Steps, r.Batch, r.SeqLen, r.Device = 2, 2, 32, "cpu"
	return Options{
		Data: "sample:val", Valid: "sample:val", Groups: []int{8, 2}, Curves: []Curve{paper}, Recipe: r,
		EvalWindows: 4, Batch: 2, Context: 16, OriginalTokens: SampleTokens(),
	}
}

// tiny returns the same options for a model of 128 ids.
func tiny(t *testing.T, family string) Options {
	t.Helper()
	o := small(t)
	for _, c := range golden.Cases(t) {
		if c.Name == family {
			o.Model, o.Data = c.Dir, filepath.Join(c.Dir, "golden.safetensors")
			o.Valid, o.Recipe.SeqLen = o.Data, 12
		}
	}
	if o.Model == "" {
		t.Fatalf("there is no case %s", family)
	}
	return o
}

// watched counts the steps of each stage.
type watched struct {
	stages []string
	steps  map[string]int
}

func (w *watched) watcher() Watcher {
	w.stages, w.steps = nil, map[string]int{}
	return Watcher{
		Stage: func(name string, _ int) { w.stages = append(w.stages, name) },
		Step:  func() { w.steps[w.stages[len(w.stages)-1]]++ },
	}
}

func mustRun(t *testing.T, dir string, o Options, force bool, w Watcher) report.Report {
	t.Helper()
	r, err := Run(t.Context(), dir, o, force, w)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// points formats a report's points as "groups method tokens".
func points(r report.Report) (list []string) {
	for _, p := range r.Points {
		list = append(list, fmt.Sprint(p.Groups, " ", p.Method, " ", p.UptrainTokens))
	}
	return list
}

func losses(r report.Report) (list []float64) {
	for _, p := range r.Points {
		list = append(list, p.Loss)
	}
	return list
}

// stamps returns the time of the last change of each file under the parts of a folder.
func stamps(t *testing.T, dir string, parts ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, part := range parts {
		files, err := filepath.Glob(filepath.Join(dir, part))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no %s (%v)", dir, part, err)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			all[f] = info.ModTime().String()
		}
	}
	return all
}

func TestSample(t *testing.T) {
	dir, o := filepath.Join(t.TempDir(), "sweep"), small(t)
	o.About = About{Program: "the test", Making: func(folder, original string) string { return folder + " of " + original }}
	o.Tasks = tasks.Selection{Names: []string{"brackets"}, Limit: 12}
	var w watched
	r := mustRun(t, dir, o, false, w.watcher())
	if want := []string{"8 mha 0", "8 mean 128", "2 mean 0", "2 mean 128"}; !slices.Equal(points(r), want) {
		t.Errorf("points %v, want %v", points(r), want)
	}
	for _, p := range r.Points {
		if p.KVBytesPerToken != int64(p.Groups)*1024 || p.Batch != 2 || p.Context != 16 || p.Alpha != float64(p.UptrainTokens)/159989760 {
			t.Errorf("point %+v", p)
		}
		checkMetrics(t, p, r.Points[0])
		checkDetails(t, p)
	}
	if r.Prompt == "" || r.Program != "the test" || r.Date == "" {
		t.Errorf("prompt %q, program %q, date %q", r.Prompt, r.Program, r.Date)
	}
	if l := losses(r); !(l[0] < 3 && l[2] > l[0]+1) {
		t.Errorf("losses %v: want that of a model, and of one that lost most of its heads", l)
	}
	stamps(t, dir, "report.json", "scores.json", "report.md", "report.html", "junit.xml", "tradeoff.svg", "tradeoff.png", "sweep.json",
		"models/gopher-4m/model.safetensors", "models/2-mean/conversion.json", "runs/2-mean/model/tokenizer.json", "runs/8-mean/recipe.yaml")
	if stored, err := report.Read(dir); err != nil || !reflect.DeepEqual(stored, r) {
		t.Errorf("report.json holds %+v (%v), want %+v", stored, err, r)
	}
	if w.steps["up-training 2-mean"] != 2 || w.steps["evaluating mean at 2 groups"] != 2*4 || w.steps["brackets with mean at 2 groups"] != 2*12 {
		t.Errorf("steps %v", w.steps)
	}

	// Repeating the sweep measures again but makes nothing.
	made := stamps(t, dir, "sweep.json", "models/*/*", "runs/*/metrics.jsonl", "runs/*/checkpoints/*/*")
	again := mustRun(t, dir, o, false, w.watcher())
	if w.steps["up-training 2-mean"] != 0 || !slices.Equal(losses(again), losses(r)) {
		t.Errorf("again: steps %v, losses %v, want %v", w.steps, losses(again), losses(r))
	}
	if now := stamps(t, dir, "sweep.json", "models/*/*", "runs/*/metrics.jsonl", "runs/*/checkpoints/*/*"); !reflect.DeepEqual(now, made) {
		t.Errorf("again: files changed: %v, were %v", now, made)
	}

	// Other options require force.
	other := o
	other.Groups, other.Recipe.Steps = []int{4}, 1
	_, err := Run(t.Context(), dir, other, false, Watcher{})
	wantError(t, "other options", err, dir+": holds a sweep with other options")
	if now := stamps(t, dir, "sweep.json", "models/*/*", "runs/*/metrics.jsonl", "runs/*/checkpoints/*/*"); !reflect.DeepEqual(now, made) {
		t.Error("other options, refused: files changed")
	}
	forced := mustRun(t, dir, other, true, Watcher{})
	if want := []string{"8 mha 0", "4 mean 0", "4 mean 64"}; !slices.Equal(points(forced), want) {
		t.Errorf("forced: points %v, want %v", points(forced), want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "2-mean")); len(left) > 0 {
		t.Errorf("forced: %v are left", left)
	}
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: error %v, want one line with %q", what, err, want)
	}
}

// A sweep that is interrupted in one stage after another gives the same result as an uninterrupted one.
// checkMetrics compares a point's metrics with its keys, and their differences with the baseline's.
func checkMetrics(t *testing.T, p, base report.Point) {
	t.Helper()
	first := p.Method == report.MethodMHA
	for name, want := range map[string]float64{
		"loss": p.Loss, "decode_ms_per_token": p.DecodeMsPerToken, "prefill_ms": p.PrefillMs, "kv_bytes_per_token": float64(p.KVBytesPerToken),
	} {
		if got := p.Metrics[name]; got.Value != want || (got.Delta == nil) != first || !first && *got.Delta != want-base.Metrics[name].Value {
			t.Errorf("%s: %s is %+v, want %v and its difference from %v", p.Name(), name, got, want, base.Metrics[name].Value)
		}
	}
	for _, name := range []string{"loss", "token_accuracy", "bits_per_byte", "brackets_acc"} {
		m := p.Metrics[name]
		if (m.DeltaCI == nil) != first || !first && !(m.DeltaCI[0] <= *m.Delta && *m.Delta <= m.DeltaCI[1]) {
			t.Errorf("%s: %s is %+v", p.Name(), name, m)
		}
	}
	if len(p.Metrics) != 7 {
		t.Errorf("%s: metrics %v", p.Name(), slices.Sorted(maps.Keys(p.Metrics)))
	}
}

func TestInterrupted(t *testing.T) {
	o, dir := tiny(t, "llama"), filepath.Join(t.TempDir(), "sweep")
	o.Groups, o.Recipe.Steps = []int{2}, 6
	want := mustRun(t, t.TempDir(), o, false, Watcher{})
	for _, stage := range []string{"evaluating mha", "converting", "up-training", "a step of up-training"} {
		ctx, cancel := context.WithCancel(t.Context())
		seen, last := false, ""
		stop := func(at string) {
			if strings.HasPrefix(at, stage) {
				seen = true
				cancel()
			}
		}
		_, err := Run(ctx, dir, o, false, Watcher{
			Stage: func(name string, _ int) { last = name; stop(name) },
			Step:  func() { stop("a step of " + last) },
		})
		if !errors.Is(err, context.Canceled) || !seen {
			t.Errorf("%s: error %v, reached: %v", stage, err, seen)
		}
		if reports, _ := filepath.Glob(filepath.Join(dir, "report*")); len(reports) > 0 {
			t.Errorf("%s: there is %v already", stage, reports)
		}
	}
	var w watched
	got := mustRun(t, dir, o, false, w.watcher())
	if !slices.Equal(points(got), points(want)) || !slices.Equal(losses(got), losses(want)) {
		t.Errorf("points %v, losses %v; want %v, %v", points(got), losses(got), points(want), losses(want))
	}
	if w.steps["up-training 2-mean"] >= 6 {
		t.Error("the up-training began again")
	}
}

// With force even a sweep with the same options is made again.
func TestForced(t *testing.T) {
	o, dir := tiny(t, "llama"), t.TempDir()
	o.Groups, o.Recipe.Steps = []int{2}, 2
	parts := []string{"sweep.json", "models/2-mean/*", "runs/2-mean/metrics.jsonl", "runs/2-mean/checkpoints/*/*"}
	want := mustRun(t, dir, o, false, Watcher{})
	old := stamps(t, dir, parts...)
	var w watched
	got := mustRun(t, dir, o, true, w.watcher())
	if w.steps["up-training 2-mean"] != 2 || !slices.Equal(losses(got), losses(want)) {
		t.Errorf("steps %v, losses %v, want %v", w.steps, losses(got), losses(want))
	}
	for file, when := range stamps(t, dir, parts...) {
		if when == old[file] {
			t.Errorf("%s is still the old one", file)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Run(ctx, dir, o, true, Watcher{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// Options that do not fit together are detected before anything is written, including when another sweep would be
// replaced.
func TestRefuses(t *testing.T) {
	old := t.TempDir()
	asked, err := json.Marshal(tiny(t, "llama"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "sweep.json"), asked, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(old, "runs"), 0o777); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(o *Options){
		"groups is 3, want a divisor of the checkpoint's 8":         func(o *Options) { o.Groups = []int{4, 3} },
		`method "best" is unknown`:                                  func(o *Options) { o.Curves = append(o.Curves, Curve{Method: "best"}) },
		"2 groups by mean are requested twice":                      func(o *Options) { o.Groups = []int{2, 4, 2} },
		"8 groups by mean are requested twice":                      func(o *Options) { o.Curves = []Curve{paper, paper} },
		"model: nowhere":                                            func(o *Options) { o.Model = "nowhere" },
		"nowhere.safetensors: ":                                     func(o *Options) { o.Data = "nowhere.safetensors" },
		"valid: corpus ":                                            func(o *Options) { o.Valid = "nowhere.txt" },
		"valid: " + tiny(t, "llama").Model + " has no tokenizer":    func(o *Options) { o.Valid = "sample:val" },
		"data: corpus has 48 tokens, shorter than one window of 49": func(o *Options) { o.Recipe.SeqLen = 49 },
		"tasks: " + tiny(t, "llama").Model + " has no tokenizer":    func(o *Options) { o.Tasks.Names = []string{"sample"} },
		"there is no file nowhere and no task of that name":         func(o *Options) { o.Tasks.Names = []string{"nowhere"} },
		"context is 64, but the model has 64 positions; at most 63": func(o *Options) { o.Model, o.Context = tiny(t, "gpt2").Model, 64 },
		"seq_len is 65, but the model has 64 positions": func(o *Options) {
			o.Model, o.Recipe.SeqLen = tiny(t, "gpt2").Model, 65
		},
	} {
		o := tiny(t, "llama")
		change(&o)
		for dir, force := range map[string]bool{filepath.Join(t.TempDir(), "new"): false, old: true} {
			_, err := Run(t.Context(), dir, o, force, Watcher{})
			wantError(t, want, err, want)
			entries, _ := os.ReadDir(dir)
			if dir != old && len(entries) > 0 || dir == old && len(entries) != 2 {
				t.Errorf("%s: the folder holds %v", want, entries)
			}
		}
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		_, err := Run(t.Context(), foreign, tiny(t, "llama"), force, Watcher{})
		wantError(t, "a folder with other things", err, "is not empty and holds no sweep")
	}
}

func TestWithoutUptraining(t *testing.T) {
	o, dir := tiny(t, "gpt_neox"), t.TempDir()
	o.Recipe.Steps, o.Data, o.Groups, o.Curves = 0, "", []int{8, 4}, []Curve{paper, {Method: convert.First}}
	r := mustRun(t, dir, o, false, Watcher{})
	if want := []string{"8 mha 0", "4 mean 0", "4 first 0"}; !slices.Equal(points(r), want) {
		t.Errorf("points %v, want %v", points(r), want)
	}
	if _, err := os.Stat(filepath.Join(dir, "runs")); err == nil {
		t.Error("there are runs")
	}
	if r.Points[1].Loss == r.Points[2].Loss || r.Points[1].DecodeMsPerToken != r.Points[2].DecodeMsPerToken {
		t.Errorf("methods differ in loss, not in latency: %+v", r.Points)
	}
}

// Alpha is relative to an estimate if the number of pre-training tokens is not given.
func TestOriginalTokens(t *testing.T) {
	o := tiny(t, "gpt2")
	o.Groups, o.Context, o.OriginalTokens, o.Recipe.Steps = []int{8}, 63, 0, 1
	r := mustRun(t, t.TempDir(), o, false, Watcher{})
	if want := []string{"8 mha 0", "8 mean 24"}; !slices.Equal(points(r), want) {
		t.Errorf("points %v, want %v", points(r), want)
	}
	for _, p := range r.Points {
		if p.Context != 63 || p.Alpha != float64(p.UptrainTokens)/float64(20*p.Params) {
			t.Errorf("context %d, alpha %v of %d parameters", p.Context, p.Alpha, p.Params)
		}
	}
}

// If one up-training diverges, only its point is omitted from the report, and the error says so.
func TestDiverged(t *testing.T) {
	o, dir := tiny(t, "llama"), t.TempDir()
	o.Groups, o.Recipe.Steps, o.Recipe.Optimizer.LR, o.Recipe.Optimizer.Clip = []int{2, 1}, 5, 1e30, 0
	r, err := Run(t.Context(), dir, o, false, Watcher{})
	wantError(t, "diverged", err, "omits the up-trained 2-mean, 1-mean")
	if !errors.Is(err, train.ErrDiverged) {
		t.Errorf("error %v, want train.ErrDiverged", err)
	}
	if want := []string{"8 mha 0", "2 mean 0", "1 mean 0"}; !slices.Equal(points(r), want) {
		t.Errorf("points %v, want %v", points(r), want)
	}
	if stored, err := report.Read(dir); err != nil || !reflect.DeepEqual(stored, r) {
		t.Errorf("report.json holds %+v (%v), want %+v", stored, err, r)
	}
}

func TestGroups(t *testing.T) {
	for kvHeads, want := range map[int][]int{
		1: {1}, 2: {2, 1}, 7: {7, 1}, 8: {8, 4, 2, 1}, 9: {9, 3, 1}, 12: {12, 6, 3, 1}, 20: {20, 10, 5, 1}, 25: {25, 5, 1}, 32: {32, 16, 8, 4, 2, 1},
	} {
		if got := Groups(kvHeads); !slices.Equal(got, want) {
			t.Errorf("%d KV heads: %v, want %v", kvHeads, got, want)
		}
	}
}

func TestSampleTokens(t *testing.T) {
	if n := SampleTokens(); n != 159989760 {
		t.Errorf("the sample was trained on %d tokens, want 159989760", n)
	}
}

// Every point is converted and evaluated on the device that was asked for, whether it is up-trained or not.
func TestDeviceOfPoints(t *testing.T) {
	s := &sweep{o: small(t), heads: 8}
	s.o.Recipe.Device = "cuda:7"
	for _, p := range s.points() {
		o, err := p.options(t.Context(), &convert.Source{})
		if err != nil || p.Device != "cuda:7" || o.Device != "cuda:7" {
			t.Errorf("%s at %d groups: evaluated on %q, converted on %q; %v", p.Curve, p.Groups, p.Device, o.Device, err)
		}
	}
}
