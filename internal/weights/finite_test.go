package weights

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"gqa/checkpoints"
	"gqa/configs"
)

// unsound returns a Llama in which x is the last element of the given tensors.
func unsound(t *testing.T, x float32, tensors ...string) *Source {
	t.Helper()
	a := resolve(t, llama)
	stored, err := a.Tensors()
	if err != nil {
		t.Fatal(err)
	}
	specs := []checkpoints.Spec{{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", DType: checkpoints.F32, Shape: []int{1}}}
	for _, s := range stored {
		specs = append(specs, checkpoints.Spec{Name: s.Name, DType: checkpoints.F32, Shape: s.Shape})
	}
	values := map[string]float32{specs[0].Name: float32(math.Inf(1))} // dropped, not read
	for _, name := range tensors {
		values[name] = x
	}
	dir := t.TempDir()
	err = checkpoints.Write(dir, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
		data := make([]byte, s.Bytes())
		if err := checkpoints.EncodeFloats(data[len(data)-4:], []float32{values[s.Name]}, checkpoints.F32); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(llama), 0o666); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, Options{})
}

func TestCheckFinite(t *testing.T) {
	const up, down = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
	good := unsound(t, 1)
	if err := errors.Join(good.CheckFinite(t.Context(), nil), good.CheckFinite(t.Context(), nil)); err != nil {
		t.Error(err)
	}
	if _, err := good.All(t.Context()); err != nil {
		t.Error(err)
	}
	bad := unsound(t, float32(math.NaN()), up, down)
	read := int64(0)
	found, err := bad.NotFinite(t.Context(), 0, func(n int64) { read += n })
	if err != nil || len(found) != 2 || read != bad.OwnBytes() {
		t.Fatalf("found %v in %d bytes of %d (%v), want two tensors", found, read, bad.OwnBytes(), err)
	}
	wantError(t, bad.CheckFinite(t.Context(), nil), found[0].Error())
	_, err = bad.All(t.Context())
	wantError(t, err, "NaN at [")
	if _, ok := bad.Tensor("model.layers.0.self_attn.rotary_emb.inv_freq"); ok {
		t.Error("a table that is no weight is among the tensors")
	}
	for _, name := range []string{up, down, "model.norm.weight"} {
		x, _ := bad.Tensor(name)
		if err := bad.CheckTensor(t.Context(), x); (err != nil) != (name == up || name == down) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range []configs.Param{{Name: "up", Tensor: up}, {Name: "down", Tensor: down}} {
		_, err := bad.Read(t.Context(), p)
		wantError(t, err, `tensor "`+p.Tensor+`": NaN at [`)
	}
}

// TestReadStops between pieces of a large tensor, and between checks.
func TestReadStops(t *testing.T) {
	before := pieceElements
	defer func() { pieceElements = before }()
	pieceElements = 1
	s := unsound(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.All(ctx)
	_, err2 := s.Read(ctx, configs.Param{Name: "embed", Tensor: "model.embed_tokens.weight"})
	for _, err := range []error{err, err2, s.CheckFinite(ctx, nil)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
	}
}
