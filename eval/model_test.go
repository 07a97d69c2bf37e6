package eval

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// gopher is the embedded sample model.
func gopher(t *testing.T) *Model {
	t.Helper()
	dir := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	return mustLoad(t, dir)
}

func mustLoad(t *testing.T, dir string) *Model {
	t.Helper()
	m, err := LoadModel(t.Context(), dir, ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tiny is the model of a family's reference case, of 128 ids.
func tiny(t *testing.T, family string) *Model {
	t.Helper()
	return mustLoad(t, golden.Named(t, family).Dir)
}

// broken is a tiny model with one weight that is not a number.
func broken(t *testing.T) *Model {
	t.Helper()
	src, all := golden.Load(t, golden.Named(t, "llama").Dir)
	all["final_norm.weight"][3] = float32(math.NaN())
	m, err := NewModel(ModelOptions{}, "", src.Arch, model.FromMap(src.Arch, all))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func someIDs(seed uint64, n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = r.Int32N(int32(vocab))
	}
	return ids
}

// writeIDs makes a safetensors file of ids by tensor name, each of that shape.
func writeIDs(t *testing.T, ids []int64, shape []int, names ...string) (path string) {
	t.Helper()
	var specs []checkpoints.Spec
	for _, name := range names {
		specs = append(specs, checkpoints.Spec{Name: name, DType: checkpoints.I64, Shape: shape})
	}
	dir := t.TempDir()
	err := checkpoints.Write(dir, specs, checkpoints.WriteOptions{}, func(_ checkpoints.Spec, w io.Writer) error {
		return binary.Write(w, binary.LittleEndian, ids)
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "model.safetensors")
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: error %v, want one line with %q", what, err, want)
	}
}

// TestLoadNotFinite: every format rejects weights that are not finite, and names them.
func TestLoadNotFinite(t *testing.T) {
	for _, x := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		dir := t.TempDir()
		if err := sample.Extract(dir); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "model.safetensors")
		golden.Poison(t, file, "model.layers.2.mlp.up_proj.weight", 777, x)
		for _, o := range []ModelOptions{{}, {Weights: checkpoints.BF16}} {
			_, err := LoadModel(t.Context(), dir, o)
			wantError(t, "weights", err, fmt.Sprintf("model: %s: tensor \"model.layers.2.mlp.up_proj.weight\": %v at [3, 9]; the file is damaged", file, x))
		}
	}
}

func TestLoadModel(t *testing.T) {
	m := gopher(t)
	if m.Parameters != 3737856 || m.Arch.KVHeads != 8 || filepath.Base(m.Dir) != sample.Name {
		t.Errorf("loaded %d parameters, %d groups, from %s", m.Parameters, m.Arch.KVHeads, m.Dir)
	}
	byFile := mustLoad(t, filepath.Join(m.Dir, "model.safetensors"))
	if byFile.Parameters != m.Parameters || byFile.Dir != m.Dir {
		t.Errorf("by its file: %d parameters, folder %s, want those of the folder", byFile.Parameters, byFile.Dir)
	}
	_, err := LoadModel(t.Context(), "nowhere", ModelOptions{})
	wantError(t, "no model", err, "model: nowhere: ")
	_, err = LoadModel(t.Context(), t.TempDir(), ModelOptions{})
	wantError(t, "an empty folder", err, "model: ")
}

func TestLoadModelDType(t *testing.T) {
	_, err := LoadModel(t.Context(), "testdata", ModelOptions{Cache: KVCache{DType: "int3"}})
	wantError(t, "dtype", err, "a KV cache in int3: want one of f32, bf16, f16, int8, int4")
	_, err = LoadModel(t.Context(), "testdata", ModelOptions{Weights: checkpoints.I64})
	wantError(t, "dtype", err, "weights in I64: want F32, BF16 or F16")
}
