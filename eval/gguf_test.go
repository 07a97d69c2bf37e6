package eval

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"gqa/convert"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// converted converts a copy of a model, in a folder of its own.
func converted(t *testing.T, model, folder string, goal convert.Goal, to convert.Target) (out string, ok bool) {
	t.Helper()
	src, err := convert.Open(model, convert.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	p, err := convert.NewPlan(src, convert.Options{Goal: goal, Method: convert.Mean, Target: to})
	if err != nil {
		return "", false
	}
	out = filepath.Join(folder, fmt.Sprint(to, goal))
	if _, err := p.Run(t.Context(), out, convert.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return out, true
}

// checkLogits compares two models.
func checkLogits(t *testing.T, name string, m, want *Model) {
	t.Helper()
	b := ops.NewBatch(someIDs(1, 20, m.Arch.Vocab))
	if m.Arch.EncoderLayers > 0 {
		source := ops.NewBatch(someIDs(2, 20, m.Arch.Vocab))
		b.Source = &source
	}
	a, z := m.Host(m.Logits(b)), want.Host(want.Logits(b))
	for i := range a {
		if !(math.Abs(float64(a[i]-z[i])) < 1e-4) {
			t.Fatalf("%s: logit %d is %v, want %v", name, i, a[i], z[i])
		}
	}
}

// TestGGUF: a GGUF file has the logits of the same conversion in the family's own tensors.
func TestGGUF(t *testing.T) {
	files := 0
	for _, c := range golden.Cases(t) {
		folder := t.TempDir()
		model := filepath.Join(folder, "model")
		if err := os.CopyFS(model, os.DirFS(c.Dir)); err != nil {
			t.Fatal(err)
		}
		goal := convert.Groups(1)
		file, ok := converted(t, model, folder, goal, convert.GGUF)
		if !ok { // llama.cpp wants as many KV heads as there are
			goal = convert.Groups(mustLoad(t, model).Arch.KVHeads)
			if file, ok = converted(t, model, folder, goal, convert.GGUF); !ok {
				continue
			}
		}
		m, err := LoadModel(t.Context(), file, ModelOptions{})
		if c.Name == "bert" {
			wantError(t, "an encoder", err, "does not hold head_dense.weight, which the model needs to predict tokens")
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		files++
		own, _ := converted(t, model, folder, goal, convert.Own)
		checkLogits(t, c.Name, m, mustLoad(t, own))
	}
	if files < 20 {
		t.Errorf("%d files were read", files)
	}
}

func TestGGUFErrors(t *testing.T) {
	folder := t.TempDir()
	model := filepath.Join(folder, "model")
	if err := os.CopyFS(model, os.DirFS(golden.Named(t, "llama").Dir)); err != nil {
		t.Fatal(err)
	}
	out, _ := converted(t, model, folder, convert.Groups(2), convert.GGUF)
	file, alone := filepath.Join(out, ggufFile), filepath.Join(t.TempDir(), "alone.gguf")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(alone, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if m := mustLoad(t, file); m.Arch.KVHeads != 2 || m.Dir != model {
		t.Errorf("%d KV heads, from %s", m.Arch.KVHeads, m.Dir)
	}
	record := filepath.Join(out, "conversion.json")
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, bytes.Replace(text, []byte(`"decoder_self": 2`), []byte(`"decoder_self": 4`), 1), 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(folder, "x.gguf"): "model: " + filepath.Join(folder, "x.gguf") + ": there is no such file",
		alone:                           "there is no conversion.json beside it: only GGUF files that gqa-convert wrote are read",
		file:                            "tensor blk.0.attn_k.weight has shape [",
	} {
		_, err := LoadModel(t.Context(), path, ModelOptions{})
		wantError(t, path, err, want)
	}
	if err := os.Rename(model, model+"2"); err != nil {
		t.Fatal(err)
	}
	_, err = LoadModel(t.Context(), out, ModelOptions{})
	wantError(t, "without the source", err, "the checkpoint that it was made of is needed too, beside its folder or in the current one: model: there is no such file")
}
