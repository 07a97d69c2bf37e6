package sweep

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gqa/eval"
	"gqa/eval/report"
	"gqa/eval/tasks"
)

const sampleModel = "../../checkpoints/sample/gopher-4m"

func compareOptions(models ...string) CompareOptions {
	return CompareOptions{
		Models: models, Data: "sample:val", Quality: eval.QualityOptions{SeqLen: 128, MaxWindows: 6},
		Latency: eval.LatencyOptions{Batch: 2, Context: 600}, FitContext: true,
	}
}

func TestCompare(t *testing.T) {
	converted := Point{Model: sampleModel, Curve: Curve{Method: "mean"}, Groups: 2, Conversion: filepath.Join(t.TempDir(), "two")}
	if err := converted.Convert(t.Context(), Watcher{}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "comparison")
	var w watched
	o := compareOptions(converted.Conversion, sampleModel)
	o.Tasks = tasks.Selection{Names: []string{"brackets"}, Limit: 20}
	r, err := Compare(t.Context(), dir, o, w.watcher())
	if err != nil {
		t.Fatal(err)
	}
	base, other := r.Points[0], r.Points[1]
	if base.Groups != 2 || base.Method != "mean" || base.Recipe != converted.Conversion || base.Context != 600 || other.Method != report.MethodMHA {
		t.Errorf("points %+v", r.Points)
	}
	for name, better := range map[string]bool{"loss": true, "token_accuracy": true, "brackets_acc": true, "kv_bytes_per_token": false} {
		m := other.Metrics[name]
		if gained := (*m.Delta < 0) == (m.Better == report.Lower); gained != better || base.Metrics[name].Delta != nil {
			t.Errorf("%s: %+v beside %+v", name, m, base.Metrics[name])
		}
	}
	if ci := other.Metrics["loss"].DeltaCI; ci == nil || !(ci[1] < 0) {
		t.Errorf("the original model is better, but the interval is %v", ci)
	}
	if ci := other.Metrics["brackets_acc"].DeltaCI; ci == nil || !(ci[0] > 0) {
		t.Errorf("the original model is better, but the interval of accuracy is %v", ci)
	}
	if w.steps["evaluating "+sampleModel] != 6 {
		t.Errorf("steps %v", w.steps)
	}
	if got, err := report.Read(dir); err != nil || len(got.Points) != 2 {
		t.Errorf("read back: %+v, %v", got, err)
	}

	// The report can be made again, but nothing else is replaced.
	if _, err := Compare(t.Context(), dir, compareOptions(sampleModel, sampleModel+"/"), Watcher{}); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Compare(t.Context(), dir, compareOptions(sampleModel, converted.Conversion), Watcher{})
	wantError(t, "a folder with another file", err, "holds mine.txt")
}

// Losses of other tokens are not compared.
func TestCompareNeedsOneTokenizer(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	if err := os.CopyFS(other, os.DirFS(sampleModel)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(other, "tokenizer.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(text), `"merges"`)
	j := i + strings.Index(string(text[i:]), `[`) + 1
	k := j + strings.Index(string(text[j:]), `,`) + 1 // after the first merge, or its first half
	if strings.HasPrefix(strings.TrimSpace(string(text[j:])), "[") {
		k = j + strings.Index(string(text[j:]), `],`) + 2
	}
	if err := os.WriteFile(path, append(text[:j:j], text[k:]...), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Compare(t.Context(), filepath.Join(t.TempDir(), "comparison"), compareOptions(sampleModel, other), Watcher{})
	wantError(t, "another tokenizer", err, "they need the same tokenizer")
}
