package configs

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
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

func TestLoadRecipeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"optimzer: {lr: 1}":           `unknown key "optimzer", want one of name, model`,
		"optimizer: {lrr: 1}":         `optimizer.lrr: unknown key "lrr", want one of name, lr,`,
		"optimizer: 5":                "optimizer is a group of keys; set one of name, lr,",
		"steps: x":                    `steps is "x", want an integer`,
		"steps: 1.5":                  `steps is "1.5", want an integer`,
		"steps: {a: 1}":               "steps is a group of keys, want a value",
		"steps: 1\nsteps: 2":          `mapping key "steps" already defined`,
		"seed: -1":                    `seed is "-1", want an integer, 0 or more`,
		"optimizer: {clip: no}":       `optimizer.clip is "no", want a number`,
		"steps: 99999999999999999999": "want an integer",
		"steps: [1":                   "[1:8]",
		"- steps":                     "[1:1]",
	} {
		if _, err := LoadRecipe(recipeFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
	if _, err := LoadRecipe("nothing.yaml"); err == nil || !strings.Contains(err.Error(), "default, long, sample") {
		t.Errorf("unknown recipe: %v, want the embedded ones named", err)
	}
	if _, err := LoadRecipe(t.TempDir()); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a folder as a recipe: %v", err)
	}
}

func TestLoadRecipeKeepsDefaults(t *testing.T) {
	base, err := DefaultRecipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "# nothing\n", "optimizer:\n", "valid:\n"} {
		if r, err := LoadRecipe(recipeFile(t, text)); err != nil || r != base {
			t.Errorf("%q: %+v, %v; want the default", text, r, err)
		}
	}
	r, err := LoadRecipe(recipeFile(t, "name: 7\noptimizer: {lr: 2e-5}\nseed: 18446744073709551615\n"))
	want := base
	want.Name, want.Optimizer.LR, want.Seed = "7", 2e-5, math.MaxUint64
	if err != nil || r != want {
		t.Errorf("got %+v, %v; want %+v", r, err, want)
	}
}

func TestRecipeNames(t *testing.T) {
	for _, name := range RecipeNames() {
		r, err := LoadRecipe(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Model, r.Data, r.Steps = "model", "data", max(r.Steps, 1) // what a recipe may leave to flags
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
		"optimizer.eps=1e-9", "optimizer.weight_decay=0.2", "optimizer.decay=all", "optimizer.clip=2", "optimizer.average=0.9", "schedule.kind=linear",
		"schedule.warmup=1", "schedule.final=0.5", "valid_every=5", "valid_windows=6", "save_every=7", "keep=8", "log_every=9",
		"export_dtype=bf16", "threads=3", "distill.teacher=t", "distill.loss=mixed", "distill.weight=0.3", "distill.temperature=2",
		"distill.cache=c", "distill.top_k=9",
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
	if back, err := LoadRecipe(recipeFile(t, string(text))); err != nil || back != r {
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
		"steps":          "want key=value",
		"stepz=1":        `stepz: unknown key "stepz"`,
		"optimizer=1":    "optimizer is a group of keys; set one of name, lr, attention_rate",
		"optimizer.x=1":  `optimizer.x: unknown key "x", want one of name, lr`,
		"steps.x=1":      "steps.x: steps has no keys below it",
		"steps=1e3":      `steps is "1e3", want an integer`,
		"optimizer.lr=a": `optimizer.lr is "a", want a number`,
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
		{set: "steps=5 alpha=.5 original_tokens=20480", steps: 5, alpha: 1}, // steps win
		{set: "", err: "steps is 0: give steps, or alpha"},
		{set: "alpha=0.1", err: "alpha needs original_tokens"},
		{set: "steps=-1", err: "steps is -1, want at least 1"},
		{set: "steps=1 alpha=nan", err: "alpha is NaN"},
		{set: "model=", err: "model and data must be given"},
		{set: "steps=9 batch=0", err: "batch is 0, want at least 1"},
		{set: "steps=9 seq_len=1", err: "seq_len is 1, want at least 2"},
		{set: "steps=9 accumulate=0", err: "accumulate is 0"},
		{set: "steps=9 log_every=0", err: "log_every is 0"},
		{set: "steps=9 save_every=-1", err: "save_every is -1"},
		{set: "steps=9 schedule.warmup=-1", err: "schedule.warmup is -1, want 0 or more"},
		{set: "steps=9 schedule.warmup=10", steps: 9},
		{set: "steps=9 schedule.kind=sine", err: `schedule.kind is "sine", want one of [cosine linear constant]`},
		{set: "steps=9 schedule.final=2", err: "schedule.final is 2"},
		{set: "steps=9 optimizer.lr=0", err: "optimizer.lr is 0, want more than 0"},
		{set: "steps=9 optimizer.lr=inf", err: "optimizer.lr is +Inf"},
		{set: "steps=9 optimizer.beta2=1", err: "optimizer.beta2 is 1"},
		{set: "steps=9 optimizer.clip=-1", err: "optimizer.clip is -1"},
		{set: "steps=9 optimizer.decay=some", err: "optimizer.decay is \"some\""},
		{set: "steps=9 export_dtype=f64", err: `export_dtype is "f64", want one of [keep f32 bf16 f16]`},
		{set: "steps=9 threads=-1", err: "threads is -1"},
	} {
		r, err := DefaultRecipe()
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
		s    Schedule
		want [5]float64 // steps 1, 2, 6, 10 (the last), 12
	}{
		{Schedule{Cosine, 2, 0.1}, [5]float64{0.5, 1, 0.55, 0.1, 0.1}},
		{Schedule{Cosine, 0, 0}, [5]float64{(1 + math.Cos(math.Pi/10)) / 2, (1 + math.Cos(math.Pi/5)) / 2, (1 + math.Cos(math.Pi*.6)) / 2, 0, 0}},
		{Schedule{Linear, 2, 0.1}, [5]float64{0.5, 1, 0.55, 0.1, 0.1}},
		{Schedule{Linear, 0, 0}, [5]float64{0.9, 0.8, 0.4, 0, 0}},
		{Schedule{Constant, 2, 0.1}, [5]float64{0.5, 1, 1, 1, 1}},
		{Schedule{Cosine, 10, 0.1}, [5]float64{0.1, 0.2, 0.6, 1, 0.1}},
	} {
		for i, step := range []int{1, 2, 6, 10, 12} {
			if got := c.s.At(step, 10); math.Abs(got-c.want[i]) > 1e-12 {
				t.Errorf("%+v at step %d of 10: %v, want %v", c.s, step, got, c.want[i])
			}
		}
	}
}
