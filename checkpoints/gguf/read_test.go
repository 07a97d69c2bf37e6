package gguf

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gqa/checkpoints"
)

// TestOpen: what was written is read back, and a file that is cut off anywhere is an error.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	specs := []checkpoints.Spec{
		{Name: "a", DType: checkpoints.F32, Shape: []int{2, 3}},
		{Name: "b", DType: checkpoints.F16, Shape: []int{5}},
		{Name: "c", DType: checkpoints.BF16, Shape: []int{1, 2, 2}},
	}
	keys := []Key{
		{"text", "x"},
		{"bool", true},
		{"u32", uint32(1)},
		{"i32", int32(-1)},
		{"f32", float32(2)},
		{"texts", []string{"a", "bc"}},
		{"u32s", []uint32{1}},
		{"i32s", []int32{1}},
		{"f32s", []float32{1, 2}},
		{"bools", []bool{true}},
		{"bytes", []byte("abc")},
	}
	want := []float32{1, -2, 0.5, 4, -8, 0.25}
	err := Write(path, keys, specs, 1, func(s checkpoints.Spec, w io.Writer) error {
		data := make([]byte, s.Bytes())
		if err := checkpoints.EncodeFloats(data, want[:s.Elements()], s.DType); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, s := range specs {
		got, ok := f.Spec(s.Name)
		values, err := f.Floats(s.Name)
		if !ok || got.DType != s.DType || !slices.Equal(got.Shape, s.Shape) || err != nil || !slices.Equal(values, want[:s.Elements()]) {
			t.Errorf("%s: %+v, %v (%v), want %+v, %v", s.Name, got, values, err, s, want[:s.Elements()])
		}
	}
	if _, err := f.Floats("d"); err == nil {
		t.Error("there is no error for a tensor that is not there")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := bytes.LastIndexFunc(whole, func(r rune) bool { return r != 0 }) // the rest is padding
	for n := range end {
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(path); err == nil {
			f.Close()
			t.Errorf("a file of %d of %d bytes is read", n, len(whole))
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if file, err := Open(path); err == nil {
			for name := range file.tensors {
				if _, err := file.Floats(name); err != nil {
					t.Error(err)
				}
			}
			file.Close()
		}
	})
}
