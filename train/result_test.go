package train

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A run is finished as long as all its files exist. Otherwise it writes the result again.
func TestResult(t *testing.T) {
	recipe, whole := smallRun(t, "valid=")
	mustRun(t, recipe, whole)
	for name, spoil := range map[string]func(model string) error{
		"no weights":      func(model string) error { return os.Remove(filepath.Join(model, "model.safetensors")) },
		"weights cut":     func(model string) error { return os.Truncate(filepath.Join(model, "model.safetensors"), 100) },
		"no config":       func(model string) error { return os.Remove(filepath.Join(model, "config.json")) },
		"nothing":         os.RemoveAll,
		"no record of it": func(model string) error { return os.WriteFile(filepath.Join(model, "..", resultFile), nil, 0o666) },
	} {
		o := copied(t, whole.Dir)
		if err := spoil(filepath.Join(o.Dir, modelDir)); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadStatus(o.Dir); err != nil || s.State != Interrupted || s.Model != "" {
			t.Errorf("%s: status %+v, %v", name, s, err)
		}
		if s, err := Resume(t.Context(), o, nil); err != nil || s.State != Finished || s.Idle {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		same(t, name, o.Dir, whole.Dir)
		if s, err := Resume(t.Context(), o, nil); err != nil || !s.Idle {
			t.Errorf("%s: resumed again: %+v, %v", name, s, err)
		}
	}
}

// A user's additions to a result and changes in it are not lost.
func TestResultUsersFiles(t *testing.T) {
	recipe, whole := smallRun(t, "valid=", "steps=2")
	mustRun(t, recipe, whole)
	for name, test := range map[string]struct{ file, text, why string }{
		"added":   {"README.md", "mine", "its model/README.md is not part of the old output"},
		"changed": {"config.json", "{}", "its model/config.json is not part of the old output"},
	} {
		o := copied(t, whole.Dir)
		put(t, filepath.Join(o.Dir, modelDir), test.file, test.text)
		if s, err := ReadStatus(o.Dir); err != nil || s.State != Finished {
			t.Errorf("%s: status %+v, %v", name, s, err)
		}
		o.Force = true
		if _, err := Run(t.Context(), recipe, o); err == nil || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s: error %v, want %q", name, err, test.why)
		}
		if read(t, o.Dir, modelDir, test.file) != test.text {
			t.Errorf("%s: it is lost", name)
		}
	}
}

// A result that was edited, or that is not the run's own folder, is put aside before another is written.
func TestResultPutAside(t *testing.T) {
	recipe, whole := smallRun(t, "valid=", "steps=2")
	mustRun(t, recipe, whole)
	for name, edit := range map[string]func(t *testing.T, model string){
		"edited": func(t *testing.T, model string) { put(t, model, "config.json", "{}") },
		"same size": func(t *testing.T, model string) {
			put(t, model, "config.json", strings.ToUpper(read(t, model, "config.json")))
		},
		"no record":   func(t *testing.T, model string) { put(t, filepath.Dir(model), resultFile, "") },
		"a link":      func(t *testing.T, model string) { replaceByLink(t, model) },
		"linked file": func(t *testing.T, model string) { replaceByLink(t, filepath.Join(model, "model.safetensors")) },
	} {
		o := copied(t, whole.Dir)
		model := filepath.Join(o.Dir, modelDir)
		edit(t, model)
		put(t, model, "mine.txt", "mine")
		before := read(t, model, "config.json")
		s, err := Resume(t.Context(), o, []string{"steps=3"})
		if err != nil || s.State != Finished || s.Step != 3 {
			t.Errorf("%s: %+v, %v", name, s, err)
			continue
		}
		aside := filepath.Join(o.Dir, "damaged-model")
		if read(t, aside, "config.json") != before || read(t, aside, "mine.txt") != "mine" {
			t.Errorf("%s: it is not as it was", name)
		}
		if read(t, model, "model.safetensors") == read(t, whole.Dir, modelDir, "model.safetensors") {
			t.Errorf("%s: the result is that of fewer steps", name)
		}
	}
}

// replaceByLink moves path elsewhere and replaces it by a link.
func replaceByLink(t *testing.T, path string) {
	t.Helper()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path)); err != nil {
		t.Fatal(err)
	}
}

// Settings without effect are an error, and so is something else in the place of one of the run's files.
func TestResumeInTheWay(t *testing.T) {
	recipe, whole := smallRun(t, "valid=", "steps=2")
	mustRun(t, recipe, whole)
	for want, test := range map[string]struct {
		spoil func(dir string) error
		sets  []string
	}{
		"so other settings change nothing": {func(string) error { return nil }, []string{"optimizer.lr=0.5"}},
		"result.json: is not a regular file": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, resultFile)), os.Mkdir(filepath.Join(dir, resultFile), 0o777))
		}, []string{"steps=3"}},
		"identity.json: is not a regular file": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, identityFile)), os.Symlink("nowhere", filepath.Join(dir, identityFile)))
		}, nil},
		"checkpoints: is neither a folder nor a link to one": {func(dir string) error {
			path := filepath.Join(dir, checkpointsDir)
			return errors.Join(os.RemoveAll(path), os.Symlink("unmounted", path))
		}, nil},
		"run: is not a run: it has no recipe.yaml": {func(dir string) error { return os.Remove(filepath.Join(dir, recipeFile)) }, nil},
	} {
		o := copied(t, whole.Dir)
		if err := test.spoil(o.Dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Resume(t.Context(), o, test.sets); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if read(t, o.Dir, metricsFile) != read(t, whole.Dir, metricsFile) || read(t, o.Dir, modelDir, "model.safetensors") == "" {
			t.Errorf("%s: something is lost", want)
		}
	}
}

// A folder in the place of the next checkpoint does not end a run.
func TestCheckpointInTheWay(t *testing.T) {
	recipe, o := smallRun(t, "valid=", "steps=2", "save_every=1")
	o.Observe = func(p Progress) {
		if p.Step == 1 {
			if err := os.MkdirAll(checkpointDir(o.Dir, 2), 0o777); err != nil {
				t.Error(err)
			}
			put(t, checkpointDir(o.Dir, 2), "mine.txt", "mine")
		}
	}
	mustRun(t, recipe, o)
	if read(t, o.Dir, checkpointsDir, "damaged-step-2", "mine.txt") != "mine" {
		t.Error("what was there is lost")
	}
}

func TestSameValue(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{{"3e-3", "0.003", true}, {"1", "1.0", true}, {"a", "a", true}, {"1", "2", false}, {"a", "b", false}, {"", "0", false}} {
		if got := sameValue(test.a, test.b); got != test.want {
			t.Errorf("%q and %q: %v", test.a, test.b, got)
		}
	}
}
