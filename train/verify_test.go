package train

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gqa/internal/weights"
)

// TestReadRecord verifies the result of a run by its record.
func TestReadRecord(t *testing.T) {
	recipe, o := smallRun(t, "valid=", "steps=2")
	mustRun(t, recipe, o)
	model := filepath.Join(o.Dir, modelDir)
	kinds := func() (kinds []weights.Kind) {
		r, err := ReadRecord(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := r.VerifyFolder(t.Context(), nil)
		if err != nil || r.Dir != model {
			t.Fatal(r.Dir, err)
		}
		for _, f := range findings {
			kinds = append(kinds, f.Kind)
		}
		return kinds
	}
	if got := kinds(); got != nil {
		t.Errorf("a new result: %q", got)
	}
	put(t, model, "config.json", "{}")
	put(t, model, "pytorch_model.bin", "")
	if got, want := kinds(), []weights.Kind{weights.Resized, weights.Unlisted}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	t.Chdir(model)
	for dir, want := range map[string]string{model: o.Dir, model + "/": o.Dir, ".": filepath.Dir(mustGetwd(t)), o.Dir: "", filepath.Join(model, "x"): ""} {
		if got := RunOf(dir); got != want {
			t.Errorf("%s is of the run %q, want %q", dir, got, want)
		}
	}
	put(t, o.Dir, resultFile, "{}")
	if r, err := ReadRecord(o.Dir); err == nil {
		t.Errorf("a damaged record: %v", r)
	}
	var unfinished weights.UnfinishedError
	if err := errors.Join(os.Remove(filepath.Join(o.Dir, resultFile)), os.Rename(model, model+"2")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRecord(o.Dir); !errors.As(err, &unfinished) {
		t.Errorf("without a result: %v", err)
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
