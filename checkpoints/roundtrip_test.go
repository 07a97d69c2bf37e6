package checkpoints

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// rewrite writes all tensors of c into dir, unchanged.
func rewrite(t *testing.T, c *Checkpoint, dir string, shardSize int64) {
	t.Helper()
	var specs []Spec
	for _, name := range c.Names() {
		tensor, _ := c.Tensor(name)
		specs = append(specs, tensor.Spec())
	}
	err := Write(dir, specs, WriteOptions{ShardSize: shardSize, Metadata: c.Metadata}, func(s Spec, w io.Writer) error {
		tensor, _ := c.Tensor(s.Name)
		_, err := tensor.WriteTo(w)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, path string) *Checkpoint {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

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
