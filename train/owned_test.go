package train

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/configs/recipe"
)

// TestRecognize distinguishes runs from folders with files of the same names.
func TestRecognize(t *testing.T) {
	recipe, err := recipe.Default()
	if err != nil {
		t.Fatal(err)
	}
	written, err := recipe.YAML()
	if err != nil {
		t.Fatal(err)
	}
	step := `{"step":1,"tokens":8,"loss":2.5,"grad_norm":1,"lr":0.1,"tokens_per_s":10}` + "\n"
	for name, test := range map[string]struct{ recipe, metrics, why string }{
		"just begun":                 {string(written), "", ""},
		"begun again by hand":        {"steps: 10\n", step, ""},
		"its last line is torn":      {string(written), step + `{"step":2`, ""},
		"no step, a person's recipe": {"steps: 10\n", "", "its recipe.yaml is not as a run writes it"},
		"another's recipe":           {"model: {_component_: llama}\n", step, "recipe.yaml: "},
		"another's metrics":          {string(written), `{"step":1,"loss":2.5}` + "\n", "its metrics.jsonl is another program's"},
		"metrics with other keys":    {string(written), strings.Replace(step, "}", `,"wandb":1}`, 1), "its metrics.jsonl is another program's"},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{recipeFile: test.recipe, metricsFile: test.metrics} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		owned, err := Recognize(dir)
		if test.why == "" {
			if _, ok := owned.Files[metricsFile]; err != nil || !ok {
				t.Errorf("%s: %v, %v", name, err, slices.Collect(maps.Keys(owned.Files)))
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s: error %v, want %q", name, err, test.why)
		}
	}
}
