package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sample is a report of 13 points: MHA, and two methods at g = 4, 2, 1 with
// and without up-training.
func sample(t *testing.T) Report {
	t.Helper()
	r, err := Read(filepath.Join("testdata", "report"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func point(groups int, method string, alpha, loss, ms float64) Point {
	return Point{
		Groups: groups, Method: method, Alpha: alpha, Loss: loss, LossStderr: 0.001, Perplexity: 5,
		DecodeMsPerToken: ms, DecodeTokensPerS: 1000 / ms, PrefillMs: 9, Batch: 1, Context: 128,
		KVBytesPerToken: int64(groups) * 1024, Params: 1000,
	}
}

func TestReportKeysAreTheContract(t *testing.T) {
	var out bytes.Buffer
	if err := (Report{Points: []Point{point(1, "mha", 0, 1, 1)}}).Render(&out, "json"); err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(out.Bytes(), &top); err != nil {
		t.Fatal(err)
	}
	one := top["points"].([]any)[0].(map[string]any)
	got := slices.Sorted(func(yield func(string) bool) {
		for key := range one {
			if !yield(key) {
				return
			}
		}
	})
	want := []string{
		"alpha", "batch", "context", "decode_ms_per_token", "decode_tokens_per_s", "groups", "kv_bytes_per_token",
		"loss", "loss_stderr", "method", "params", "perplexity", "prefill_ms", "uptrain_tokens",
	}
	if !slices.Equal(got, want) || len(top) != 4 || top["model"] == nil || top["corpus"] == nil || top["machine"] == nil {
		t.Errorf("keys %v of %v, want %v", got, top, want)
	}
}

func TestReadReportRefuses(t *testing.T) {
	valid, err := os.ReadFile(filepath.Join("testdata", "report", File))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"not JSON", string(valid), "loss", "not a report"},
		{"unknown key", `"corpus"`, `"bogus": 1, "corpus"`, `unknown field "bogus"`},
		{"text after", "\n}\n", "\n} {}", "text after the JSON object"},
		{"missing key", `"model": "gopher-4m",`, "", `report: key "model" is missing`},
		{"missing key of a point", `"alpha": 0,`, "", `points[0]: key "alpha" is missing`},
		{"null", `"loss": 1.7254`, `"loss": null`, `points[0]: key "loss" is missing`},
		{"string for number", `"loss": 1.7254`, `"loss": "low"`, "not a report: points.loss: unexpected JSON string"},
		{"too large", `"loss": 1.7254`, `"loss": 1e999`, "not a report: points.loss: unexpected JSON number 1e999"},
		{"empty", string(valid) + "\n", "", "not a report: the file is empty"},
		{"negative loss", `"loss": 1.7254`, `"loss": -1`, "points[0] (g=8 mha): loss is -1; want a finite number of at least 0"},
		{"no groups", `"groups": 8`, `"groups": 0`, "groups is 0; want a finite number of at least 1"},
		{"no method", `"method": "mha"`, `"method": " "`, "method is empty"},
		{"twice", `"alpha": 0.05`, `"alpha": 0`, "the same point as points[1]"},
		{"a recipe that is null", `"alpha": 0,`, `"alpha": 0, "recipe": null,`, `points[0]: key "recipe" is missing`},
		{"no points", string(valid), `{"model":"","corpus":"","machine":"","points":[]}`, "holds no points"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "r.json")
			text := strings.Replace(string(valid)+"\n", test.old, test.new, 1)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Read(file)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), file+": ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q of %s", err, test.want, file)
			}
		})
	}
	if _, err := Read(t.TempDir()); err == nil || !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty folder: %v", err)
	}
}

// Metrics must be possible, and those that are also keys have one value.
func TestMetricsThatCannotBe(t *testing.T) {
	for want, metrics := range map[string]map[string]Metric{
		"metrics: acc: the value is 1.5; want 0 to 1, a share of items":      {"acc": {Value: 1.5, Unit: "share of items", Better: Higher}},
		"kv_bytes_per_token is 8192, but metrics.kv_bytes_per_token is 1":    {"kv_bytes_per_token": {Value: 1, Unit: "bytes", Better: Lower}},
		"decode_ms_per_token is 1, but metrics.decode_ms_per_token is 0.5":   {"decode_ms_per_token": {Value: 0.5, Unit: "ms", Better: Lower}},
		`metrics: loss: better is "smaller"; want "lower" or "higher"`:       {"loss": {Value: 2, Unit: "nats/token", Better: "smaller"}},
		"metrics: loss: stderr is -1 and n 0; want at least 0":               {"loss": {Value: 2, Stderr: -1, Unit: "nats/token", Better: Lower}},
		"metrics: loss: delta_ci is [0 1]; want an interval, beside a delta": {"loss": {Value: 2, DeltaCI: &[2]float64{0, 1}, Unit: "nats/token", Better: Lower}},
	} {
		p := point(8, "mha", 0, 2, 1)
		p.Metrics = metrics
		if err := p.check(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A difference that is not that from the baseline would be shown, and recommended by.
func TestDeltasAreFromTheBaseline(t *testing.T) {
	base, other := point(8, "mha", 0, 2, 1), point(4, "mean", 0, 2.5, 1)
	base.Metrics = map[string]Metric{"loss": {Value: 2, Unit: "nats/token", Better: Lower}}
	for delta, want := range map[float64]string{
		0.5: "",
		2.5: "points[1] (g=4 mean): metrics: loss: delta is 2.5, but the value is 0.5 above the baseline's",
	} {
		other.Metrics = map[string]Metric{"loss": {Value: 2.5, Delta: &delta, Unit: "nats/token", Better: Lower}}
		err := (Report{Version: Version, Points: []Point{base, other}}).check()
		if got := fmt.Sprint(err); err == nil && want != "" || err != nil && got != want {
			t.Errorf("delta %v: %v, want %q", delta, err, want)
		}
	}
}

func TestReportRoundTrip(t *testing.T) {
	want := sample(t)
	var out bytes.Buffer
	if err := want.Render(&out, "json"); err != nil {
		t.Fatal(err)
	}
	got, err := parse(out.Bytes())
	if err != nil || !reflect.DeepEqual(got.Points, want.Points) || got.Machine != want.Machine {
		t.Errorf("got %+v, %v", got, err)
	}
}

// withRecipe returns a point with a recipe.
func withRecipe(p Point, recipe string) Point {
	p.Recipe = recipe
	return p
}

// A point's recipe is written if there is one, and read back; without one the method is the recipe.
func TestRecipe(t *testing.T) {
	p := point(2, "calibrated", 0.01, 2.5, 2)
	want := Report{Points: []Point{p, withRecipe(p, "calibrated+similar+kl")}}
	text := render(t, want, "json")
	if strings.Count(text, `"recipe": "calibrated+similar+kl",`) != 1 || strings.Count(text, `"recipe"`) != 1 {
		t.Errorf("written as %s", text)
	}
	if got, err := parse([]byte(text)); err != nil || !reflect.DeepEqual(got.Points, want.Points) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := want.Points[1].Name(); got != "g=2 calibrated+similar+kl α=0.01" {
		t.Errorf("name %s", got)
	}
	if got := render(t, want, "md"); !strings.Contains(got, "| 2 | calibrated+similar+kl | 0 (1%) |") {
		t.Errorf("no row of the recipe in\n%s", got)
	}
	if _, err := parse([]byte(strings.Replace(text, "calibrated+similar+kl", "calibrated", 1))); err == nil || !strings.Contains(err.Error(), "the same point") {
		t.Errorf("the method as recipe: %v", err)
	}
}

func TestBaseline(t *testing.T) {
	for _, test := range []struct {
		name   string
		points []Point
		want   int
	}{
		{"mha wins", []Point{point(8, "mean", 0, 1, 1), point(4, "mha", 0, 1, 1)}, 1},
		{"mha that was not up-trained", []Point{point(8, "mha", 0.1, 1, 1), point(8, "mha", 0, 1, 1)}, 1},
		{"most groups", []Point{point(2, "mean", 0, 1, 1), point(4, "mean", 0, 1, 1), point(8, "mean", 0.1, 1, 1)}, 1},
		{"all up-trained", []Point{point(2, "mean", 0.1, 1, 1), point(4, "mean", 0.2, 1, 1), point(4, "mean", 0.1, 1, 1)}, 2},
	} {
		if got := (Report{Points: test.points}).baseline(); !reflect.DeepEqual(got, test.points[test.want]) {
			t.Errorf("%s: %s", test.name, got.Name())
		}
	}
	if got := (Report{}).baseline(); !reflect.DeepEqual(got, Point{}) {
		t.Errorf("no points: %+v", got)
	}
}
