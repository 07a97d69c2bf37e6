package checkpoints

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

const benchBytes = 64 << 20

// benchFolder returns a checkpoint of benchBytes of d in 16 tensors.
func benchFolder(b *testing.B, d DType) string {
	dir := b.TempDir()
	var specs []Spec
	for i := range 16 {
		specs = append(specs, Spec{fmt.Sprintf("t%02d", i), d, []int{benchBytes / 16 / d.Size()}})
	}
	if err := Write(dir, specs, WriteOptions{}, zeros); err != nil {
		b.Fatal(err)
	}
	return dir
}

func BenchmarkOpen(b *testing.B) {
	for _, tensors := range []int{300, 30_000} {
		b.Run(fmt.Sprintf("tensors=%d", tensors), func(b *testing.B) {
			specs := make([]Spec, tensors)
			for i := range specs {
				specs[i] = Spec{fmt.Sprintf("model.layers.%d.self_attn.q_proj.weight", i), U8, []int{0, 4096}}
			}
			file, err := encodeHeader(specs, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(binary.LittleEndian.Uint64(file)))
			for b.Loop() {
				if _, err := Read("bench", bytes.NewReader(file), int64(len(file))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFloat32(b *testing.B) {
	for _, d := range []DType{F64, F32, F16, BF16} {
		b.Run("dtype="+d.String(), func(b *testing.B) {
			c := mustOpen(b, benchFolder(b, d))
			var dst []float32
			b.SetBytes(benchBytes)
			for b.Loop() {
				for _, name := range c.Names() {
					tensor, _ := c.Tensor(name)
					var err error
					if dst, err = tensor.Float32(dst); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkEncodeFloats(b *testing.B) {
	src := make([]float32, 1<<20)
	for i := range src {
		src[i] = float32(i) * 0x1p-20
	}
	for _, d := range []DType{F32, F16, BF16} {
		b.Run("dtype="+d.String(), func(b *testing.B) {
			dst := make([]byte, len(src)*d.Size())
			b.SetBytes(int64(len(dst)))
			for b.Loop() {
				if err := EncodeFloats(dst, src, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWrite writes to files: data from memory, or from another checkpoint.
func BenchmarkWrite(b *testing.B) {
	c := mustOpen(b, benchFolder(b, F32))
	chunk := make([]byte, 1<<20)
	sources := map[string]func(Spec, io.Writer) error{
		"memory": func(s Spec, w io.Writer) error {
			for left := s.Bytes(); left > 0; left -= int64(len(chunk)) {
				if _, err := w.Write(chunk); err != nil {
					return err
				}
			}
			return nil
		},
		"copy": copier(c),
	}
	for _, source := range []string{"memory", "copy"} {
		b.Run("source="+source, func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "out")
			b.SetBytes(benchBytes)
			for b.Loop() {
				if err := Write(dir, specs(c), WriteOptions{}, sources[source]); err != nil {
					b.Fatal(err)
				}
				if err := os.RemoveAll(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
