package recipe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func recipeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// bomb is YAML of a few hundred bytes that stands for a billion values.
var bomb = func() string {
	text := "a: &a [x, x]\n"
	for _, c := range "bcdefghi" {
		before := "*" + string(c-1)
		text += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.Join(slices.Repeat([]string{before}, 10), ", "))
	}
	return text
}()

func TestLoadRecipeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"optimzer: {lr: 1}":            `unknown key "optimzer", want one of name, model`,
		"optimizer: {lrr: 1}":          `: unknown key "optimizer.lrr", want one of name, lr,`,
		"optimizer: 5":                 "optimizer is a group of keys; set one of name, lr,",
		"steps: x":                     `steps is "x", want an integer`,
		"steps: 1.5":                   `steps is "1.5", want an integer`,
		"steps: {a: 1}":                "steps is a group of keys, want a value",
		"steps: 1\nsteps: 2":           `mapping key "steps" already defined`,
		"seed: -1":                     `seed is "-1", want an integer, 0 or more`,
		"optimizer: {clip: no}":        `optimizer.clip is "no", want a number`,
		"steps: 99999999999999999999":  "want an integer",
		"steps: [1":                    "[1:8]",
		"- steps":                      "[1:1]",
		"steps: [1, 2]":                "steps is a list, want a value",
		"name: [a]":                    "name is a list, want a value",
		"steps: 1\n---\nsteps: 2":      "it holds more than one YAML document",
		strings.Repeat("#", 70_000):    "larger than 65536 bytes, the limit",
		strings.Repeat("a: 1\n", 1001): "it has 1001 keys, more than 1000",
		strings.Repeat("[", 5000):      "it has 5000 words and signs, more than 4096",
		"name: " + strings.Repeat("[", 20) + strings.Repeat("]", 20): "its keys and lists nest more than 16 deep",
		bomb:                "it has 80 aliases and merges, more than 16",
		"a: &a [*a]":        "",
		"<<: 5":             "",
		"? [a]\n: 1":        "",
		"steps: *nothing":   "",
		"1: 2":              `unknown key "1"`,
		"steps: !!binary x": "",
	} {
		if _, err := Load(recipeFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
	if _, err := Load("nothing.yaml"); err == nil || !strings.Contains(err.Error(), "default, long, sample") {
		t.Errorf("unknown recipe: %v, want the embedded ones named", err)
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a folder; want a regular file") {
		t.Errorf("a folder as a recipe: %v", err)
	}
}

func TestLoadRecipeKeepsDefaults(t *testing.T) {
	base, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "# nothing\n", "optimizer:\n", "valid:\n"} {
		if r, err := Load(recipeFile(t, text)); err != nil || r != base {
			t.Errorf("%q: %+v, %v; want the default", text, r, err)
		}
	}
	r, err := Load(recipeFile(t, "name: 7\noptimizer: {lr: 2e-5}\nseed: 18446744073709551615\n"))
	want := base
	want.Name, want.Optimizer.LR, want.Seed = "7", 2e-5, math.MaxUint64
	if err != nil || r != want {
		t.Errorf("got %+v, %v; want %+v", r, err, want)
	}
}

func TestRecipeNames(t *testing.T) {
	for _, name := range Names() {
		r, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Model, r.Data, r.Steps = "model", "data", max(r.Steps, 1) // may be given by flags instead
		if err := r.Resolve(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every key can be set, and every key survives a file.
func TestRecipeYAML(t *testing.T) {
	r := Recipe{Name: "a: b", Model: "true", Data: " x", Valid: "#", TextKey: "content", Steps: 3, Alpha: 0.05, OriginalTokens: 1 << 40}
	for _, set := range []string{
		"batch=2", "seq_len=16", "accumulate=4", "seed=9", "optimizer.name=muon", "optimizer.attention_rate=2", "optimizer.lr=3e-4", "optimizer.beta1=0.8", "optimizer.beta2=.99",
		"optimizer.eps=1e-9", "optimizer.weight_decay=0.2", "optimizer.decay=all", "optimizer.clip=2", "optimizer.average=0.9", "optimizer.moments=bf16", "schedule.kind=linear",
		"schedule.warmup=1", "schedule.final=0.5", "schedule.cooldown=0.3", "valid_every=5", "valid_windows=6", "save_every=7", "keep=8", "log_every=9",
		"export_dtype=bf16", "threads=3", "device=cuda:1", "precision=bf16", "deterministic=false", "sharding=gradients", "recompute=layer", "distill.teacher=t", "distill.loss=mixed", "distill.weight=0.3", "distill.temperature=2",
		"distill.cache=c", "distill.top_k=9", "packing=documents", "bad_rows=8", "data_cache=d", "tasks=a,b", "tasks_every=3", "tasks_limit=4", "best=loss", "patience=2", "skip.limit=2", "skip.spike=6", "train=lora", "optimizer.adafactor.decay_rate=0.7", "optimizer.adafactor.clip_threshold=2", "optimizer.adafactor.scale_parameter=false", "lora.rank=4", "lora.alpha=8", "lora.projections=q,v",
	} {
		if err := r.Set(set); err != nil {
			t.Fatal(err)
		}
	}
	if key := firstZero(reflect.ValueOf(r), ""); key != "" {
		t.Errorf("%s was not set", key)
	}
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Load(recipeFile(t, string(text))); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("got %+v, %v; want %+v from\n%s", back, err, r, text)
	}
}

func firstZero(v reflect.Value, prefix string) string {
	if v.Kind() != reflect.Struct {
		if v.IsZero() {
			return prefix
		}
		return ""
	}
	for i := range v.NumField() {
		if key := firstZero(v.Field(i), prefix+"."+v.Type().Field(i).Name); key != "" {
			return key
		}
	}
	return ""
}

func TestRecipeSetErrors(t *testing.T) {
	for set, want := range map[string]string{
		"steps":                            "want key=value",
		"stepz=1":                          `unknown key "stepz", want one of name, model`,
		"=3":                               `"=3": want key=value`,
		"optimizer.=3":                     `unknown key "optimizer."`,
		"optimizer=1":                      "optimizer is a group of keys; set one of name, lr, attention_rate",
		"optimizer.x=1":                    `unknown key "optimizer.x", want one of name, lr`,
		"steps.x=1":                        `unknown key "steps.x": steps has no keys below it`,
		"steps=" + strings.Repeat("x", 99): `steps is "` + strings.Repeat("x", 79) + `…", want an integer`,
		"steps=1e3":                        `steps is "1e3", want an integer`,
		"optimizer.lr=a":                   `optimizer.lr is "a", want a number`,
	} {
		var r Recipe
		if err := r.Set(set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", set, err, want)
		}
	}
}

func TestRecipeResolve(t *testing.T) {
	for _, c := range []struct {
		set, err string
		steps    int
		alpha    float64
	}{
		{set: "steps=7", steps: 7},
		{set: "alpha=0.01 original_tokens=1000000", steps: 3, alpha: 0.012288}, // 10000 tokens are 2.44 steps of 4096
		{set: "steps=5 original_tokens=20480", steps: 5, alpha: 1},
		{set: "alpha=.5 steps=5 original_tokens=20480", steps: 5, alpha: 1}, // the last wins
		{set: "steps=5 alpha=.5 original_tokens=20480", steps: 3, alpha: 0.6},
		{set: "steps=5 alpha=.5", err: "alpha needs original_tokens"},
		{set: "steps=9 schedule.kind=wsd schedule.cooldown=2", err: "schedule.cooldown is 2, want 0 to 1"},
		{set: "", err: "steps is 0: give steps, or alpha"},
		{set: "alpha=0.1", err: "alpha needs original_tokens"},
		{set: "steps=-1", err: "steps is -1, want 0 to 1000000000 (0: derived from alpha)"},
		{set: "steps=1 alpha=nan", err: "alpha is NaN"},
		{set: "model=", err: "model and data must be given"},
		{set: "steps=9 batch=0", err: "batch is 0, want 1 to 65536 windows"},
		{set: "steps=9 seq_len=1", err: "seq_len is 1, want 2 to 16777216 tokens"},
		{set: "steps=9 accumulate=0", err: "accumulate is 0"},
		{set: "steps=9 batch=65536 accumulate=65536", err: "batch * accumulate * seq_len is 2199023255552, want at most 100000000 tokens"},
		{set: "alpha=1000 original_tokens=1000000000000000", err: "steps is 244140625000000, want 0 to 1000000000"},
		{set: "steps=9 alpha=1e300", err: "alpha is 1e+300, want 0 to 1000"},
		{set: "steps=9 log_every=0", err: "log_every is 0"},
		{set: "steps=9 save_every=-1", err: "save_every is -1"},
		{set: "steps=9 schedule.warmup=-1", err: "schedule.warmup is -1, want 0 to 1000000000 steps"},
		{set: "steps=9 schedule.warmup=10", steps: 9},
		{set: "steps=9 schedule.kind=sine", err: `schedule.kind is "sine", want one of [cosine linear constant wsd]`},
		{set: "steps=9 schedule.final=2", err: "schedule.final is 2"},
		{set: "steps=9 optimizer.lr=0", err: "optimizer.lr is 0, want more than 0"},
		{set: "steps=9 optimizer.lr=inf", err: "optimizer.lr is +Inf"},
		{set: "steps=9 optimizer.beta2=1", err: "optimizer.beta2 is 1"},
		{set: "steps=9 optimizer.clip=-1", err: "optimizer.clip is -1"},
		{set: "steps=9 optimizer.decay=some", err: "optimizer.decay is \"some\""},
		{set: "steps=9 export_dtype=f64", err: `export_dtype is "f64", want one of [keep f32 bf16 f16]`},
		{set: "steps=9 threads=-1", err: "threads is -1"},
		{set: "steps=9 optimizer.adafactor.decay_rate=-1", err: "optimizer.adafactor.decay_rate is -1, want 0 or more"},
		{set: "steps=9 optimizer.adafactor.clip_threshold=0", err: "optimizer.adafactor.clip_threshold is 0"},
		{set: "steps=9 optimizer.moments=4bit", err: `optimizer.moments is "4bit", want one of [f32 bf16 8bit]`},
		{set: "steps=9 optimizer.moments=8bit optimizer.name=muon", err: `optimizer.moments is "8bit", want f32 unless optimizer.name is adamw`},
		{set: "steps=9 optimizer.moments=8bit", steps: 9},
		{set: "steps=9 best=loss", err: "best is loss, want nothing, as there is no validation data"},
		{set: "steps=9 best=x_acc", err: "best is x_acc, want loss or nothing, as there are no tasks"},
		{set: "steps=9 patience=2", err: "patience is 2, want 0, as there is no best"},
		{set: "steps=9 valid=v best=loss patience=2", steps: 9},
		{set: "steps=9 skip.limit=-1", err: "skip.limit is -1, want 0 to"},
		{set: "steps=9 skip.spike=0.5", err: "skip.spike is 0.5, want 0 (none), or 1 or more"},
		{set: "steps=9 train=some", err: `train is "some", want one of [all attention lora]`},
		{set: "steps=9 train=lora lora.rank=0", err: "lora.rank is 0, want 1 to 65536"},
		{set: "steps=9 train=lora lora.alpha=0", err: "lora.alpha is 0, want more than 0"},
		{set: "steps=9 train=lora lora.projections=q,x", err: `lora.projections is "q,x": want some of q,k,v,o,cross_q,`},
		{set: "steps=9 train=lora lora.projections=q,v,q", err: `lora.projections is "q,v,q": q occurs twice`},
		{set: "steps=9 train=lora lora.projections=gate,down", steps: 9},
	} {
		r, err := Default()
		if err != nil {
			t.Fatal(err)
		}
		r.Model, r.Data, r.Schedule.Warmup = "model", "data", 0
		for _, set := range strings.Fields(c.set) {
			if err := r.Set(set); err != nil {
				t.Fatal(err)
			}
		}
		err = r.Resolve()
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want one with %q", c.set, err, c.err)
		case c.err == "" && (err != nil || r.Steps != c.steps || math.Abs(r.Alpha-c.alpha) > 1e-12):
			t.Errorf("%s: steps %d, alpha %v, %v; want %d, %v", c.set, r.Steps, r.Alpha, err, c.steps, c.alpha)
		}
	}
}

func TestScheduleAt(t *testing.T) {
	for _, c := range []struct {
		kind          ScheduleKind
		warmup        int
		final, cooled float64
		want          [5]float64 // steps 1, 2, 6, 10 (the last), 12
	}{
		{Cosine, 2, 0.1, 0, [5]float64{0.5, 1, 0.55, 0.1, 0.1}},
		{Cosine, 0, 0, 0, [5]float64{(1 + math.Cos(math.Pi/10)) / 2, (1 + math.Cos(math.Pi/5)) / 2, (1 + math.Cos(math.Pi*.6)) / 2, 0, 0}},
		{Linear, 2, 0.1, 0, [5]float64{0.5, 1, 0.55, 0.1, 0.1}},
		{Linear, 0, 0, 0, [5]float64{0.9, 0.8, 0.4, 0, 0}},
		{Constant, 2, 0.1, 0, [5]float64{0.5, 1, 1, 1, 1}},
		{Cosine, 10, 0.1, 0, [5]float64{0.1, 0.2, 0.6, 1, 0.1}},
		{WSD, 2, 0.1, 0.4, [5]float64{0.5, 1, 1, 0.1, 0.1}},
		{WSD, 0, 0, 0.8, [5]float64{1, 1, 1 - math.Sqrt(0.5), 0, 0}},
		{WSD, 2, 0, 1, [5]float64{0.5, 1, 1 - math.Sqrt(0.5), 0, 0}}, // the decay begins after the warm-up
		{WSD, 2, 0, 0, [5]float64{0.5, 1, 1, 0, 0}},                  // the last step is always its own
	} {
		s := Schedule{c.kind, c.warmup, c.final, c.cooled}
		for i, step := range []int{1, 2, 6, 10, 12} {
			if got := s.At(step, 10); math.Abs(got-c.want[i]) > 1e-12 {
				t.Errorf("%+v at step %d of 10: %v, want %v", s, step, got, c.want[i])
			}
		}
	}
}

// Every integer key of a recipe has a range, which Resolve checks and Range returns.
func TestRecipeRanges(t *testing.T) {
	for _, change := range (Recipe{}).Diff(allOnes(t)) {
		if _, whole := change.New.(string); whole || change.Key == "seed" || !strings.Contains(fmt.Sprintf("%T", change.New), "int") {
			continue
		}
		lo, hi, ok := Range(change.Key)
		if !ok {
			t.Errorf("%s has no range", change.Key)
			continue
		}
		for _, value := range []int64{math.MinInt64, lo - 1, hi + 1, math.MaxInt32, math.MaxInt64} {
			r := allOnes(t)
			if err := r.Set(fmt.Sprintf("%s=%d", change.Key, value)); err != nil {
				t.Fatal(err)
			}
			var invalid Error
			if err := r.Resolve(); lo <= value && value <= hi {
				continue
			} else if want := fmt.Sprintf("%s is %d, want %d to %d", change.Key, value, lo, hi); !errors.As(err, &invalid) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s=%d: error %v, want %q", change.Key, value, err, want)
			}
		}
	}
}

// allOnes returns a recipe without zero values.
func allOnes(t *testing.T) Recipe {
	t.Helper()
	r, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	r.Model, r.Data = "model", "data"
	for _, of := range ranges {
		if err := r.Set(fmt.Sprintf("%s=%d", of.key, max(1, of.lo))); err != nil {
			t.Fatal(err)
		}
	}
	r.Seed = 1
	return r
}

func TestRecipeDiff(t *testing.T) {
	old, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	if changes := old.Diff(old); changes != nil {
		t.Errorf("of itself: %v", changes)
	}
	now := old
	for _, set := range []string{"optimizer.lr=1e-3", "data=x", "steps=9", "distill.loss=kl"} {
		if err := now.Set(set); err != nil {
			t.Fatal(err)
		}
	}
	want := "[data is nothing there and x here steps is 0 there and 9 here optimizer.lr is 0.0003 there and 0.001 here distill.loss is nothing there and kl here]"
	if got := fmt.Sprint(old.Diff(now)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	first, second := old, old
	for _, r := range []*Recipe{&first, &second} { // of two files
		if err := r.Set("deterministic=false"); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(first.Diff(second), old.Diff(first)); got != "[] [deterministic is nothing there and false here]" {
		t.Errorf("got %s", got)
	}
}

// Values returns the keys of the document, not those of the default.
func TestRecipeValues(t *testing.T) {
	values, err := Values([]byte("steps: 3\noptimizer: {lr: 0.0003, name: muon}\nvalid:\n"))
	if err != nil || len(values) != 3 || values["steps"] != "3" || values["optimizer.lr"] != "0.0003" || values["optimizer.name"] != "muon" {
		t.Errorf("%v, %v", values, err)
	}
	if _, err := Values([]byte("steps: [")); err == nil {
		t.Error("want an error")
	}
	r := allOnes(t)
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	values, err = Values(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range (Recipe{}).Diff(r) {
		if got := values[change.Key]; got != fmt.Sprint(change.New) {
			t.Errorf("%s is %q, want %v", change.Key, got, change.New)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"": true, "first run": true, "größer": true, strings.Repeat("x", 200): true,
		" ": false, "\t": false, "a\nb": false, "a\x1b[31m": false, strings.Repeat("x", 201): false,
	} {
		r, err := Default()
		if err != nil {
			t.Fatal(err)
		}
		r.Name, r.Model, r.Data, r.Steps = name, "m", "d", 1
		switch err := r.Resolve(); {
		case ok && err != nil:
			t.Errorf("%q: %v", name, err)
		case !ok && (err == nil || !strings.Contains(err.Error(), "want at most 200 bytes") || len(err.Error()) > 300):
			t.Errorf("%q: error %v", name, err)
		}
	}
}
