package train

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A run is finished as long as all that it wrote is there. Otherwise it writes the result again.
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

// What a user adds to a result or changes in it is not lost.
func TestResultUsersFiles(t *testing.T) {
	recipe, whole := smallRun(t, "valid=", "steps=2")
	mustRun(t, recipe, whole)
	for name, test := range map[string]struct{ file, text, why string }{
		"added":   {"README.md", "mine", "model/README.md in it is not of the old output"},
		"changed": {"config.json", "{}", "model/config.json in it was changed since it was written"},
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
