package checkpoints

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Spec is what a tensor to be written is.
type Spec struct {
	Name  string
	DType DType
	Shape []int // outermost dimension first; empty for a scalar
}

// Bytes returns the size of the tensor's data, 0 if the shape is negative or too
// large.
func (s Spec) Bytes() int64 {
	n, _ := byteSize(s.DType, s.Shape)
	return n
}

// Spec returns what the tensor is, for writing one like it.
func (t *Tensor) Spec() Spec { return Spec{t.Name, t.DType, t.Shape} }

// WriteOptions are the choices of [Write].
type WriteOptions struct {
	// ShardSize is the most bytes of tensor data in one file; a tensor that alone is
	// larger gets a file of its own. Zero or less: everything goes into one file.
	ShardSize int64
	// Metadata is each file's __metadata__: nil stands for {"format": "pt"}, which
	// transformers asks for; an empty map leaves it out.
	Metadata map[string]string
}

// Write writes the tensors into the folder dir, made if needed, as model.safetensors
// or, where ShardSize asks for more files than one, as shards and their index, named
// and split as transformers does. data is called once for each spec, in the order
// written, and must write exactly the tensor's bytes: little-endian, row-major. Within a
// file the order is the reference writer's: dtypes by falling alignment, then names.
//
// It is an error if dir has such files already; an error of data is returned as it is.
// On an error nothing of what was written stays. For a folder that appears whole or not
// at all use an [Output].
func Write(dir string, specs []Spec, o WriteOptions, data func(s Spec, w io.Writer) error) error {
	if o.Metadata == nil {
		o.Metadata = map[string]string{"format": "pt"}
	}
	shards, err := split(specs, o.ShardSize)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := checkVacant(dir); err != nil {
		return err
	}
	written := []string{}
	for i, s := range shards {
		path := filepath.Join(dir, shardName(i, len(shards)))
		if err = writeFile(path, s, o.Metadata, data); err != nil {
			break
		}
		written = append(written, path)
	}
	if err == nil && len(shards) > 1 {
		err = writeIndex(filepath.Join(dir, indexFile), shards)
	}
	if err != nil {
		removeAll(written)
	}
	return err
}

// checkVacant refuses a folder with weights in it: old and new shards together
// would be neither model.
func checkVacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if name == indexFile || strings.HasPrefix(name, "model") && strings.HasSuffix(name, ".safetensors") {
			return fmt.Errorf("%s: already holds %s; write into another folder or remove it first", dir, name)
		}
	}
	return nil
}

func removeAll(paths []string) {
	for _, path := range paths {
		os.Remove(path)
	}
}

func shardName(i, n int) string {
	if n == 1 {
		return weightsFile
	}
	return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
}

// writeFile writes one safetensors file, which must not exist; on an error it does
// not exist afterwards.
func writeFile(path string, specs []Spec, metadata map[string]string, data func(Spec, io.Writer) error) (err error) {
	head, err := encodeHeader(specs, metadata)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(path)
		}
	}()
	return encode(f, head, specs, data)
}

// encode writes header and tensors to f.
func encode(f io.Writer, head []byte, specs []Spec, data func(Spec, io.Writer) error) error {
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, s := range specs {
		t := &tensorWriter{w: w, f: f, spec: s, left: s.Bytes()}
		if err := data(s, t); err != nil {
			return err
		}
		if t.left != 0 {
			return fmt.Errorf("tensor %q: %d bytes were written, want %d (%v %v)", s.Name, s.Bytes()-t.left, s.Bytes(), s.DType, s.Shape)
		}
	}
	return w.Flush()
}

// tensorWriter writes the bytes of one tensor and keeps it from writing more.
type tensorWriter struct {
	w    *bufio.Writer
	f    io.Writer // what w writes to
	spec Spec
	left int64 // bytes
}

func (t *tensorWriter) Write(b []byte) (int, error) {
	if int64(len(b)) > t.left {
		return 0, fmt.Errorf("tensor %q: more than its %d bytes (%v %v) were written", t.spec.Name, t.spec.Bytes(), t.spec.DType, t.spec.Shape)
	}
	n, err := t.w.Write(b)
	t.left -= int64(n)
	return n, err
}

// ReadFrom hands file-to-file copies to the system.
func (t *tensorWriter) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if !ok || limited.N > t.left || !isFile(limited.R) {
		return io.Copy(struct{ io.Writer }{t}, r)
	}
	if err := t.w.Flush(); err != nil {
		return 0, err
	}
	n, err := io.Copy(t.f, r)
	t.left -= n
	return n, err
}

func isFile(r io.Reader) bool {
	_, ok := r.(*os.File)
	return ok
}

// writeIndex writes the index as transformers does: sorted keys, two spaces.
func writeIndex(path string, shards [][]Spec) error {
	var index struct {
		Metadata struct {
			Parameters int64 `json:"total_parameters"`
			Size       int64 `json:"total_size"` // bytes of tensor data
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}
	index.WeightMap = map[string]string{}
	for i, shard := range shards {
		for _, s := range shard {
			index.WeightMap[s.Name] = shardName(i, len(shards))
			index.Metadata.Size += s.Bytes()
			index.Metadata.Parameters += s.Bytes() / int64(s.DType.Size())
		}
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(index); err != nil {
		return err
	}
	return WriteFileAtomic(path, text.Bytes(), 0o666)
}
