package train

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/cpu/pool"
	"gqa/internal/golden"
)

// writeIDs makes a .safetensors file of token ids.
func writeIDs(t *testing.T, windows [][]int32) string {
	t.Helper()
	dir := t.TempDir()
	spec := checkpoints.Spec{Name: "input_ids", DType: checkpoints.I32, Shape: []int{len(windows), len(windows[0])}}
	err := checkpoints.Write(dir, []checkpoints.Spec{spec}, checkpoints.WriteOptions{}, func(_ checkpoints.Spec, w io.Writer) error {
		return binary.Write(w, binary.LittleEndian, concat(windows))
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "model.safetensors")
}

func concat(windows [][]int32) (all []int32) {
	for _, w := range windows {
		all = append(all, w...)
	}
	return all
}

// smallRun is a recipe of eight steps on the golden model, two micro-batches each, with validation, and a folder for it.
func smallRun(t *testing.T, sets ...string) (recipe.Recipe, Options) {
	t.Helper()
	r := goldenRecipe(t, append([]string{
		"name=small", "model=testdata/llama-g2", "data=" + writeIDs(t, golden.Windows(1, 14, 12, 128)),
		"valid=" + writeIDs(t, golden.Windows(2, 3, 12, 128)), "steps=8", "batch=2", "accumulate=2", "seq_len=12",
		"schedule.kind=cosine", "schedule.warmup=2", "valid_every=4", "save_every=2", "log_every=3",
	}, sets...)...)
	return *r, Options{Dir: filepath.Join(t.TempDir(), "run")}
}

func mustRun(t *testing.T, r recipe.Recipe, o Options) *Status {
	t.Helper()
	s, err := Run(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// figures returns a run's metrics without those that depend on time.
func figures(t *testing.T, dir string) []Metrics {
	t.Helper()
	all, fault, err := readMetrics(filepath.Join(dir, metricsFile))
	if fault != nil || err != nil {
		t.Fatal(fault, err)
	}
	for i := range all {
		all[i].TokensPerS = 0
	}
	return all
}

// same compares two runs to the bit: figures, last checkpoint and result.
func same(t *testing.T, what, dir, want string) {
	t.Helper()
	a, b := figures(t, dir), figures(t, want)
	if len(a) != len(b) {
		t.Fatalf("%s: %d steps are logged, want %d", what, len(a), len(b))
	}
	for i := range a {
		got, err := a[i].line()
		if err != nil {
			t.Fatal(err)
		}
		if want, err := b[i].line(); err != nil || string(got) != string(want) {
			t.Errorf("%s: %s, want %s %v", what, got, want, err)
		}
	}
	last := fmt.Sprintf("checkpoints/step-%d/", b[len(b)-1].Step)
	for _, name := range []string{last + "model.safetensors", last + "optimizer.safetensors", "model/model.safetensors"} {
		if read(t, dir, name) != read(t, want, name) {
			t.Errorf("%s: %s differs", what, name)
		}
	}
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRunReproduces(t *testing.T) {
	recipe, o := smallRun(t)
	first := mustRun(t, recipe, o)
	if first.State != Finished || first.Step != 8 || first.Tokens != 8*4*12 || first.ValidLoss == nil {
		t.Fatalf("status %+v", first)
	}
	losses := figures(t, o.Dir)
	if len(losses) != 8 || losses[7].Loss >= losses[0].Loss {
		t.Fatalf("losses do not fall: %+v", losses)
	}
	for _, threads := range []int{1, 3} {
		again := Options{Dir: filepath.Join(t.TempDir(), "run")}
		recipe.Threads = threads
		mustRun(t, recipe, again)
		same(t, "with other threads", again.Dir, o.Dir)
	}
	if pool.Threads() == 3 {
		t.Error("a run leaves its number of threads behind")
	}
}

// TestEveryStep: metrics.jsonl and TensorBoard get every step with its own speed; log_every only affects the log.
func TestEveryStep(t *testing.T) {
	recipe, o := smallRun(t)
	var logged []int
	var since, all []Metrics // the last logged step; the beginning
	o.Observe = func(p Progress) {
		since, all = append(since, p.Metrics), append(all, p.Metrics)
		if want := speed(since); math.Abs(p.Pace-want) > 1e-6*want {
			t.Errorf("step %d: pace %v, want %v, the mean of %d steps", p.Step, p.Pace, want, len(since))
		}
		if p.Logged {
			logged, since = append(logged, p.Step), nil
		}
	}
	s := mustRun(t, recipe, o)
	if want := []int{1, 3, 4, 6, 8}; !slices.Equal(logged, want) { // 4 and 8 have a validation
		t.Errorf("logged steps are %v, want %v", logged, want)
	}
	written, fault, err := readMetrics(filepath.Join(o.Dir, metricsFile))
	if fault != nil || err != nil || len(written) != 8 {
		t.Fatalf("%d lines in %s, %v; want 8", len(written), metricsFile, err)
	}
	for i, m := range written {
		if m.Step != i+1 || m.TokensPerS != all[i].TokensPerS || m.TokensPerS <= 0 {
			t.Errorf("line %d is %+v, observed %+v", i+1, m, all[i])
		}
	}
	if want := speed(all); math.Abs(s.TokensPerS-want) > 1e-6*want {
		t.Errorf("status has %v tokens/s, want %v", s.TokensPerS, want)
	}
	names, err := filepath.Glob(filepath.Join(o.Dir, "events.out.tfevents.*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("event files %v, %v", names, err)
	}
	if records := readRecords(t, []byte(read(t, names[0]))); len(records) != 1+8 {
		t.Errorf("%d events, want the version and 8 steps", len(records))
	}
}

func TestRunFinished(t *testing.T) {
	recipe, o := smallRun(t, "schedule.kind=constant", "keep=2")
	mustRun(t, recipe, o)
	o.Observe = func(p Progress) {
		if p.Step <= 8 {
			t.Errorf("step %d was made again", p.Step)
		}
	}
	if s, err := Resume(t.Context(), o, nil); err != nil || s.State != Finished || s.Step != 8 {
		t.Fatalf("a finished run: %+v, %v", s, err)
	}
	before := read(t, o.Dir, "model/model.safetensors")
	s, err := Resume(t.Context(), o, []string{"steps=10", "save_every=0"})
	if err != nil || s.State != Finished || s.Step != 10 || s.Saved != 10 {
		t.Fatalf("with more steps: %+v, %v", s, err)
	}
	if read(t, o.Dir, "model/model.safetensors") == before {
		t.Error("the result is still that of fewer steps")
	}
	if steps, err := savedSteps(o.Dir); err != nil || len(steps) != 2 || steps[0] != 8 {
		t.Errorf("checkpoints of %v, %v; want the newest two", steps, err)
	}
	if _, err := Resume(t.Context(), o, []string{"steps=9"}); err == nil || !strings.Contains(err.Error(), "checkpoint of step 10") {
		t.Errorf("fewer steps than are done: %v", err)
	}
}

func TestExport(t *testing.T) {
	recipe, o := smallRun(t, "export_dtype=bf16", "steps=1")
	s := mustRun(t, recipe, o)
	src := golden.Open(t, s.Model)
	if tensor, _ := src.Tensor("model.embed_tokens.weight"); tensor.DType != checkpoints.BF16 {
		t.Errorf("the result is in %v, want BF16", tensor.DType)
	}
	if !strings.Contains(string(src.Config), `"dtype": "bfloat16"`) {
		t.Errorf("config.json says otherwise: %s", src.Config)
	}
	again := golden.Open(t, checkpointDir(o.Dir, 1))
	if tensor, _ := again.Tensor("model.embed_tokens.weight"); tensor.DType != checkpoints.F32 || again.Arch.KVHeads != 2 {
		t.Errorf("the checkpoint is in %v with %d KV heads, want F32 and 2", tensor.DType, again.Arch.KVHeads)
	}
}

// In a run with an average, the average is the result, and is used in validations and in the checkpoints' models.
func TestRunAverage(t *testing.T) {
	recipe, o := smallRun(t, "optimizer.average=0.9", "optimizer.lr=1e-2")
	s := mustRun(t, recipe, o)
	if read(t, s.Model, "model.safetensors") != read(t, checkpointDir(o.Dir, 8), "model.safetensors") {
		t.Error("the last checkpoint's model is not the result")
	}
	loss := func(model string) float64 {
		recipe.Model = model
		r, err := prepare(t.Context(), solo(nil), &recipe)
		if err != nil {
			t.Fatal(err)
		}
		l, err := r.trainer.evaluate(r.data.valid)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if got := loss(s.Model); s.ValidLoss == nil || got != *s.ValidLoss {
		t.Errorf("the result's loss is %v, the last validation %v", got, s.ValidLoss)
	}
	last, lastOptions := smallRun(t, "optimizer.lr=1e-2")
	if plain := mustRun(t, last, lastOptions); loss(plain.Model) == loss(s.Model) {
		t.Error("an average changes nothing")
	}
}
