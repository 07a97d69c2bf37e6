package weights_test

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// renamed writes a golden case with other names for tensors: by pairs old, new; "" leaves one out.
func renamed(t *testing.T, name string, pairs ...string) (src *weights.Source, dir string) {
	t.Helper()
	src, dir = golden.Open(t, golden.Named(t, name).Dir), t.TempDir()
	from, specs := map[string]string{}, []checkpoints.Spec(nil)
	for _, tensor := range src.Names() {
		x, _ := src.Tensor(tensor)
		spec := x.Spec()
		if i := slices.Index(pairs, tensor); i >= 0 && i%2 == 0 {
			spec.Name = pairs[i+1]
		}
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == "+"+tensor { // one more, of the same values
				more := spec
				more.Name = pairs[i+1]
				from[more.Name], specs = tensor, append(specs, more)
			}
		}
		if spec.Name != "" {
			from[spec.Name], specs = tensor, append(specs, spec)
		}
	}
	err := checkpoints.Write(dir, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
		x, _ := src.Tensor(from[s.Name])
		_, err := x.WriteTo(w)
		return err
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), src.Config, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return src, dir
}

// TestTiedNames opens models that were saved under any one name of the tensors that share memory.
func TestTiedNames(t *testing.T) {
	const (
		words   = "bert.embeddings.word_embeddings.weight"
		decoder = "cls.predictions.decoder.weight"
	)
	for _, c := range []struct {
		golden string
		pairs  []string
	}{
		{"t5", []string{"shared.weight", "encoder.embed_tokens.weight"}},
		{"t5", []string{"shared.weight", "decoder.embed_tokens.weight"}},
		{"t5", []string{"+shared.weight", "decoder.embed_tokens.weight", "shared.weight", "encoder.embed_tokens.weight"}},
		{"bert", []string{words, decoder}},
		{"bert", []string{words, decoder, "cls.predictions.bias", "cls.predictions.decoder.bias"}},
		{"bert", []string{"+" + words, decoder, "cls.predictions.bias", "cls.predictions.decoder.bias"}},
		{"gemma", []string{"model.embed_tokens.weight", "lm_head.weight"}},
		{"gpt2", []string{"transformer.wte.weight", "lm_head.weight"}},
	} {
		src, dir := renamed(t, c.golden, c.pairs...)
		want, err := src.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := golden.Open(t, dir).All(t.Context())
		if err != nil || !maps.EqualFunc(got, want, slices.Equal[[]float32]) {
			t.Errorf("%s, %q: %v, other weights", c.golden, c.pairs, err)
		}
	}
}

// TestTiedNamesDiffer refuses two names of one tensor with two values.
func TestTiedNamesDiffer(t *testing.T) {
	_, dir := renamed(t, "t5", "shared.weight", "encoder.embed_tokens.weight", "+encoder.final_layer_norm.weight", "decoder.embed_tokens.weight")
	_, err := weights.Open(dir, weights.Options{})
	if err == nil || !strings.Contains(err.Error(), "encoder.embed_tokens.weight differs from decoder.embed_tokens.weight") {
		t.Errorf("error %v", err)
	}
}

// TestHeadOfItsOwn is not taken for an embedding.
func TestHeadOfItsOwn(t *testing.T) {
	_, dir := renamed(t, "llama", "model.embed_tokens.weight", "")
	_, err := weights.Open(dir, weights.Options{})
	if err == nil || !strings.Contains(err.Error(), "missing: model.embed_tokens.weight") {
		t.Errorf("error %v", err)
	}
}

// TestNotedCopy: what safetensors left out of an untied model that shares memory all the same is the tensor that it kept.
func TestNotedCopy(t *testing.T) {
	const embed, head = "model.embed_tokens.weight", "lm_head.weight"
	for left, kept := range map[string]string{embed: head, head: embed} {
		src, dir := renamed(t, "llama", left, "")
		x, _ := src.Tensor(kept)
		want, err := x.Float32(nil)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "model.safetensors")
		plain, err := checkpoints.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		noted := t.TempDir()
		var specs []checkpoints.Spec
		for _, name := range plain.Names() {
			x, _ := plain.Tensor(name)
			specs = append(specs, x.Spec())
		}
		o := checkpoints.WriteOptions{Metadata: map[string]string{left: kept}}
		err = checkpoints.Write(noted, specs, o, func(s checkpoints.Spec, w io.Writer) error {
			x, _ := plain.Tensor(s.Name)
			_, err := x.WriteTo(w)
			return err
		})
		if err == nil {
			err = os.Rename(filepath.Join(noted, "model.safetensors"), path)
		}
		if err != nil {
			t.Fatal(err)
		}
		all, err := golden.Open(t, dir).All(t.Context())
		if err != nil || !slices.Equal(all["embed.weight"], want) || !slices.Equal(all["head.weight"], want) {
			t.Errorf("%s left out: %v, other weights", left, err)
		}
	}
}

// TestInferWrapped reads sizes off tensors behind a wrapper's prefix, and of a head alone.
func TestInferWrapped(t *testing.T) {
	src, dir := renamed(t, "gpt2", "transformer.wte.weight", "lm_head.weight")
	src.Close()
	if err := os.Remove(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	got, err := weights.Open(filepath.Join(dir, "model.safetensors"), weights.Options{Family: "gpt2", Heads: src.Arch.Heads})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if !got.Inferred || !got.Arch.Tied || got.Arch.Vocab != src.Arch.Vocab {
		t.Errorf("tied %v, vocabulary %d, want %d", got.Arch.Tied, got.Arch.Vocab, src.Arch.Vocab)
	}
}
