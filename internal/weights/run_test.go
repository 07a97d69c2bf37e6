package weights

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModelOf(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"done/recipe.yaml", "done/metrics.jsonl", "done/model/config.json", "begun/recipe.yaml", "begun/metrics.jsonl",
		"model/recipe.yaml", "model/metrics.jsonl", "model/config.json", "other/recipe.yaml", "file",
	} {
		write(name)
	}
	for path, want := range map[string]string{"done": "done/model", "model": "model", "other": "other", "file": "file", "none": "none", "begun": ""} {
		got, err := modelOf(filepath.Join(dir, path))
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "is a run that is not finished, so it has no model yet") {
				t.Errorf("%s: %q, %v", path, got, err)
			}
		} else if err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s: %q, %v; want %s", path, got, err, want)
		}
	}
}
