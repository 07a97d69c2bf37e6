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

// TestHeadOfItsOwn: a separate head is not mistaken for an embedding.
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

// TestInferWrapped reads sizes from tensors with a wrapper's prefix, and from a head alone.
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

// respelt gives every tensor of a golden case the name that to makes of it, and adds copies of one under the names of more.
func respelt(t *testing.T, name string, to func(name string) string, more ...string) (src *weights.Source, dir string) {
	t.Helper()
	names := golden.Open(t, golden.Named(t, name).Dir).Names()
	var pairs []string
	for _, name := range names {
		pairs = append(pairs, name, to(name))
	}
	for _, name := range more {
		pairs = append(pairs, "+"+names[0], name)
	}
	return renamed(t, name, pairs...)
}

// TestBesideTheModel opens a trainer's checkpoints of more than the model, and others' names for it.
func TestBesideTheModel(t *testing.T) {
	before := func(prefix string) func(string) string { return func(name string) string { return prefix + name } }
	for _, c := range []struct {
		golden string
		to     func(string) string
		more   []string
		note   string
	}{
		{"llama", before("module."), []string{"n_averaged"}, "not part of the model, and not read: n_averaged"},
		{"llama", before("model."), []string{"train_metric.total", "criterion.weight"}, "not part of the model, and not read: "},
		{"gpt2", before("model."), []string{"criterion.weight"}, "not part of the model, and not read: criterion.weight"},
		{
			"llama", func(name string) string {
				return strings.Replace(name, "lm_head.", "lm_head.modules_to_save.default.", 1)
			},
			[]string{"lm_head.original_module.weight"},
			"not part of the model, and not read: lm_head.original_module.weight",
		},
		{"llama", func(name string) string {
			return strings.Replace(name, "lm_head.", "lm_head.modules_to_save.default.", 1)
		}, nil, ""},
		{"gpt_neox", func(name string) string { return strings.TrimPrefix(name, "gpt_neox.") }, nil, ""},
	} {
		src, dir := respelt(t, c.golden, c.to, c.more...)
		want, err := src.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := golden.Open(t, dir)
		got, err := s.All(t.Context())
		if err != nil || !maps.EqualFunc(got, want, slices.Equal[[]float32]) {
			t.Errorf("%s with %q: %v, other weights", c.golden, c.more, err)
		}
		if notes := strings.Join(s.Notes, "\n"); !strings.Contains(notes, c.note) {
			t.Errorf("%s with %q: notes %q, want %q", c.golden, c.more, notes, c.note)
		}
	}
}

// TestStrangeNames rejects ambiguous names.
func TestStrangeNames(t *testing.T) {
	same := func(name string) string { return name }
	for _, c := range []struct {
		to   func(string) string
		more []string
		want string
	}{
		{same, []string{"criterion.weight"}, "unknown: criterion.weight"},
		{func(name string) string { return "model." + name }, []string{"model.criterion.weight"}, "unknown: criterion.weight"},
		{func(name string) string { return "model." + name }, []string{"lm_head.weight"}, `are both renamed to "lm_head.weight"`},
		{same, []string{"model.layers.0.mlp.up_proj.weight_scales"}, "quantised (EETQ;"},
		{same, []string{"_fsdp_wrapped_module._flat_param"}, "is a shard of FSDP with flattened parameters (it has the tensor _fsdp_wrapped_module._flat_param); save it with "},
		{same, []string{"tok_embeddings.weight"}, "in Meta's own format"},
	} {
		_, dir := respelt(t, "llama", c.to, c.more...)
		if _, err := weights.Open(dir, weights.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %q: error %v, want %q", c.more, err, c.want)
		}
	}
}

// TestMistral distinguishes Mistral's own format from Meta's.
func TestMistral(t *testing.T) {
	const want = "Mistral's own format"
	_, dir := respelt(t, "llama", func(name string) string { return name }, "tok_embeddings.weight")
	if err := os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "consolidated.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := weights.Open(dir, weights.Options{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("consolidated.safetensors: error %v", err)
	}
	_, dir = respelt(t, "llama", func(name string) string { return name })
	if err := os.Remove(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"params.json", "tekken.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := weights.Open(dir, weights.Options{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("params.json and tekken.json: error %v", err)
	}
}

// TestIndexOfOtherNames reads wrapped shards whose index has the names of the bare model.
func TestIndexOfOtherNames(t *testing.T) {
	src, dir := respelt(t, "llama", func(name string) string { return "module." + name })
	want, err := src.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, name := range src.Names() {
		listed = append(listed, `"`+name+`": "weights.safetensors"`)
	}
	index := `{"weight_map": {` + strings.Join(listed, ", ") + `}}`
	err = os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "weights.safetensors"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), []byte(index), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := golden.Open(t, dir).All(t.Context())
	if err != nil || !maps.EqualFunc(got, want, slices.Equal[[]float32]) {
		t.Errorf("%v, other weights", err)
	}
}
