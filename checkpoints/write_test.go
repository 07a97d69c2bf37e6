package checkpoints

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestRewriteEqualsReference rewrites files of the reference writer.
func TestRewriteEqualsReference(t *testing.T) {
	for _, path := range []string{
		"testdata/llama/model.safetensors",
		"gopher-4m/model.safetensors",
		"gopher-4m/reference.safetensors", // several dtypes, no metadata
	} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			rewrite(t, mustOpen(t, path), dir, 0)
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir, weightsFile))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes differ from the reference writer's %d", len(got), len(want))
			}
		})
	}
}
