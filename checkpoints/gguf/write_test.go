package gguf

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/gguftest"
)

var everyType = []Key{
	{"general.architecture", "llama"},
	{"empty", ""},
	{"yes", true},
	{"no", false},
	{"u32", uint32(1<<32 - 1)},
	{"i32", int32(-7)},
	{"f32", float32(-0.25)},
	{"strings", []string{"a", "", "ä€"}},
	{"u32s", []uint32{1, 2}},
	{"i32s", []int32{-1, 1}},
	{"f32s", []float32{0.5, -2}},
	{"bools", []bool{true, false}},
	{"bytes", []byte{0, 255, 1}},
	{"nothing", []string{}},
}

// pattern returns different bytes for each tensor.
func pattern(s checkpoints.Spec) []byte {
	return bytes.Repeat([]byte{byte(len(s.Name)), 0x3c}, int(s.Bytes())/2)
}

func TestWriteRead(t *testing.T) {
	specs := []checkpoints.Spec{
		{Name: "a", DType: checkpoints.F32, Shape: []int{3, 5}},
		{Name: "bb", DType: checkpoints.F16, Shape: []int{1}},
		{Name: "ccc", DType: checkpoints.BF16, Shape: []int{2, 3, 4}},
		{Name: strings.Repeat("d", 63), DType: checkpoints.F32, Shape: []int{8}},
	}
	path := filepath.Join(t.TempDir(), "x.gguf")
	err := Write(path, everyType, specs, 2, func(s checkpoints.Spec, w io.Writer) error {
		_, err := w.Write(pattern(s))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguftest.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range everyType {
		if !reflect.DeepEqual(f.Keys[k.Name], k.Value) || f.Order[i] != k.Name {
			t.Errorf("key %s is %#v, want %#v", k.Name, f.Keys[k.Name], k.Value)
		}
	}
	types := map[checkpoints.DType]uint32{checkpoints.F32: 0, checkpoints.F16: 1, checkpoints.BF16: 30}
	for i, s := range specs {
		got := f.Tensors[s.Name]
		if f.Names[i] != s.Name || !reflect.DeepEqual(got.Shape, s.Shape) || got.Type != types[s.DType] || !bytes.Equal(got.Data, pattern(s)) {
			t.Errorf("tensor %s is %v of type %d with %d bytes, want %v", s.Name, got.Shape, got.Type, len(got.Data), s)
		}
	}
	if len(f.Keys) != len(everyType) || len(f.Tensors) != len(specs) {
		t.Errorf("%d keys and %d tensors, want %d and %d", len(f.Keys), len(f.Tensors), len(everyType), len(specs))
	}
}

// TestWriteRefuses checks that errors leave no file behind.
func TestWriteRefuses(t *testing.T) {
	fine := checkpoints.Spec{Name: "a", DType: checkpoints.F32, Shape: []int{2}}
	broken := errors.New("broken")
	for want, c := range map[string]struct {
		keys  []Key
		specs []checkpoints.Spec
		data  func(checkpoints.Spec, io.Writer) error
	}{
		"key \"k\" is empty or duplicate":              {keys: []Key{{"k", true}, {"k", true}}},
		"key k: GGUF cannot store a value of type int": {keys: []Key{{"k", 1}}},
		"tensor a is listed twice":                     {specs: []checkpoints.Spec{fine, fine}},
		"tensor a is F64, want F32":                    {specs: []checkpoints.Spec{{Name: "a", DType: checkpoints.F64, Shape: []int{1}}}},
		"tensor name \"\": want 1 to 63 bytes":         {specs: []checkpoints.Spec{{DType: checkpoints.F32, Shape: []int{1}}}},
		"tensor a has shape []":                        {specs: []checkpoints.Spec{{Name: "a", DType: checkpoints.F32}}},
		"4 bytes were written, want 8": {specs: []checkpoints.Spec{fine}, data: func(_ checkpoints.Spec, w io.Writer) error {
			_, err := w.Write(make([]byte, 4))
			return err
		}},
		"broken": {specs: []checkpoints.Spec{fine}, data: func(checkpoints.Spec, io.Writer) error { return broken }},
	} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		err := Write(path, c.keys, c.specs, 1, c.data)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a file stays", want)
		}
	}
}
