package checkpoints

import (
	"io"
	"strings"
	"testing"
)

// sampleDir is the embedded sample's folder in the repository.
const sampleDir = "sample/gopher-4m"

// wantError fails the test unless err is one line that has all parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", parts)
	}
	for _, part := range append(parts, "") {
		if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q, want %q in one line", err, part)
		}
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

// specs returns the specs of c's tensors, in file order.
func specs(c *Checkpoint) []Spec {
	var all []Spec
	for _, name := range c.Names() {
		tensor, _ := c.Tensor(name)
		all = append(all, tensor.Spec())
	}
	return all
}

// copier returns a source of data for Write: the tensors of c.
func copier(c *Checkpoint) func(Spec, io.Writer) error {
	return func(s Spec, w io.Writer) error {
		tensor, _ := c.Tensor(s.Name)
		_, err := tensor.WriteTo(w)
		return err
	}
}

// rewrite writes all tensors of c into dir, unchanged.
func rewrite(t testing.TB, c *Checkpoint, dir string, shardSize int64) {
	t.Helper()
	if err := Write(dir, specs(c), WriteOptions{ShardSize: shardSize, Metadata: c.Metadata}, copier(c)); err != nil {
		t.Fatal(err)
	}
}

// encode writes header and tensors to f, as Write does for each of its files.
func encode(f io.WriterAt, head []byte, specs []Spec, data func(Spec, io.Writer) error) error {
	parts, err := begin(f, head, specs)
	if err != nil {
		return err
	}
	return writeParts(parts, 1, data)
}

// memory is a file in memory.
type memory struct{ bytes []byte }

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if more := int(at) + len(b) - len(m.bytes); more > 0 {
		m.bytes = append(m.bytes, make([]byte, more)...)
	}
	return copy(m.bytes[at:], b), nil
}
