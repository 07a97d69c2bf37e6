package checkpoints

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Spec describes a tensor to be written.
type Spec struct {
	Name  string
	DType DType
	Shape []int // outermost dimension first; empty for a scalar
}

// Elements returns the product of the shape: 1 for a scalar.
func (s Spec) Elements() int {
	n := 1
	for _, dim := range s.Shape {
		n *= dim
	}
	return n
}

// Bytes returns the size of the tensor's data in bytes, or 0 if the shape is negative or too large.
func (s Spec) Bytes() int64 {
	n, _ := byteSize(s.DType, s.Shape)
	return n
}

// Spec returns the tensor's spec, for writing one like it.
func (t *Tensor) Spec() Spec { return Spec{t.Name, t.DType, t.Shape} }

// WriteOptions are options of [Write].
type WriteOptions struct {
	// ShardSize is the maximum number of bytes of tensor data in a file; a larger tensor gets a file of its own. If it
	// is zero or less, everything goes into one file.
	ShardSize int64
	// Metadata is the __metadata__ of each file. nil stands for {"format": "pt"}, which transformers requires; an empty
	// map omits it.
	Metadata map[string]string
	// Workers is the number of tensors written concurrently. With 0 or 1 they are written in order; with more, several
	// goroutines call data, in any order. The files are the same.
	Workers int
}

// Write writes the tensors into the folder dir, made if needed: as model.safetensors or, if ShardSize requires several
// files, as shards and their index, named and split as transformers does. data is called once for each spec, and must
// write exactly the tensor's bytes: little-endian, row-major. Within a file the tensors are in the reference writer's
// order: by decreasing dtype alignment, then by name.
//
// It is an error if dir already has such files. An error of data is returned unchanged. On an error all files written
// are removed. For a folder that appears complete or not at all, use an [Output].
func Write(dir string, specs []Spec, o WriteOptions, data func(s Spec, w io.Writer) error) (err error) {
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
	w := &writer{dir: dir}
	defer func() { err = w.close(err) }()
	for i, s := range shards {
		if err := w.add(shardName(i, len(shards)), s, o.Metadata); err != nil {
			return err
		}
	}
	if err := writeParts(w.parts(o.Workers), o.Workers, data); err != nil {
		return err
	}
	if len(shards) > 1 {
		return writeIndex(filepath.Join(dir, indexFile), shards)
	}
	return nil
}

// checkVacant rejects a folder that holds weights: a mix of old and new shards would be neither model.
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

func shardName(i, n int) string {
	if n == 1 {
		return weightsFile
	}
	return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
}

// writeIndex writes the index as transformers does: sorted keys, indented by two spaces.
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
