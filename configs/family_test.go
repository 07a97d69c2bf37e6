package configs

import (
	"strings"
	"testing"
)

// wantError fails the test unless err holds every part.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q, want %q in it", err, part)
		}
	}
}

// tiny is a complete family file; each test breaks one line.
const tiny = `
family: tiny
model_types: [tiny]
config:
  vocab: {keys: [vocab_size]}
  dim: {keys: [hidden_size]}
  layers: {keys: [num_layers], default: 1}
  heads: {keys: [num_heads], default: 4}
  kv_heads: {default: heads}
  head_dim: {default: dim / heads}
  ffn: {default: 4 * dim}
  context: {default: 8}
  norm_eps: {default: 1e-5}
  attn_bias: {default: false}
require:
  - {key: moe, values: [false], why: experts are not supported}
attention: {layout: separate}
groups: {key: num_kv_heads}
tensors:
  embed: {name: embed, shape: [vocab, dim]}
layer:
  q: {name: "h.{layer}.q", shape: [q_dim, dim], bias: attn_bias}
`

func TestParseFamily(t *testing.T) {
	f, err := parseFamily([]byte(tiny))
	if err != nil {
		t.Fatal(err)
	}
	if f.Grouping(2).Layout != Separate || len(f.Prefixes) != 1 || f.Prefixes[0] != "" {
		t.Errorf("grouped layout %q, prefixes %q; want the layout of attention and no prefix", f.Grouping(2).Layout, f.Prefixes)
	}
}

func TestParseFamilyNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ old, with, want string }{
		{"family: tiny", "", "family and model_types must be set"},
		{"model_types: [tiny]", "model_types: []", "family and model_types must be set"},
		{"family: tiny", "family: tiny\nnurons: 7", `"nurons"`},
		{"shape: [vocab, dim]", "shape: [vocab, dim], bais: always", `"bais"`},
		{"default: 8", "fallback: 8", `"fallback"`},
		{"norm_eps:", "norm_epsilon:", `config: unknown field "norm_epsilon"`},
		{"context: {default: 8}", "", `config: field "context" is missing`},
		{"layout: separate", "layout: separated", `unknown layout "separated", want one of [separate fused_per_head`},
		{"groups: {", "groups: {layout: blocks, ", `unknown layout "blocks"`},
		{"embed: {", "embedding: {", `unknown tensor role "embedding", want one of [embed`},
		{"  q: {", "  embed: {", `unknown tensor role "embed", want one of [attn_norm`},
		{"{name: embed, shape: [vocab, dim]}", "{name: embed}", "tensor embed: name and shape must be set"},
		{"{name: embed, ", "{", "tensor embed: name and shape must be set"},
		{"name: embed", `name: "embed.{layer}"`, "{layer} is required in the names of a layer's tensors"},
		{"h.{layer}.q", "h.0.q", "{layer} is required in the names of a layer's tensors"},
		{"[q_dim, dim]", "[q_dims, dim]", `tensor q: shape: unknown name "q_dims"`},
		{"[q_dim, dim]", "[q_dim dim, dim]", `expression "q_dim dim" is not a product`},
		{"bias: attn_bias", "bias: attn_bais", `tensor q: bias, when or unless: "attn_bais" is not a field`},
		{"bias: attn_bias", "bias: mlp_bias", `"mlp_bias" is not a field of config`},
		{"bias: attn_bias", "unless: dim", `"dim" is not a field of config that is true or false`},
		{`name: "h.{layer}.q"`, `name: "h.{layer}.{head}.q"`, "{head} is for two dimensions, the first of which counts the tensors, and no bias"},
		{"bias: attn_bias", "when: gelu", `"gelu" is not a field of config that is true or false`},
		{"config:", "config", "[4:1]"},
	} {
		if strings.Count(tiny, c.old) == 0 {
			t.Fatalf("the file has no %q", c.old)
		}
		_, err := parseFamily([]byte(strings.Replace(tiny, c.old, c.with, 1)))
		wantError(t, err, c.want)
	}
}

func TestModelTypesAreOneFamilys(t *testing.T) {
	a, b := &Family{Name: "a", ModelTypes: []string{"x", "y"}}, &Family{Name: "b", ModelTypes: []string{"z", "y"}}
	wantError(t, b.checkModelTypes(map[string]*Family{"a": a}), `model_type "y" is also family a's`)
	if err := b.checkModelTypes(nil); err != nil {
		t.Error(err)
	}
}

// TestFamilies resolves every family's defaults, which must be complete and consistent.
func TestFamilies(t *testing.T) {
	families, err := Families()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gpt2", "gpt_neox", "llama"} {
		if families[name] == nil {
			t.Errorf("there is no family %s", name)
		}
	}
	for name, f := range families {
		for _, modelType := range f.ModelTypes {
			a, err := Resolve([]byte(`{"model_type": "`+modelType+`", "first_k_dense_replace": 99}`), "")
			if err != nil {
				t.Errorf("%s: %v", modelType, err)
				continue
			}
			if a.Family.Name != name || a.KVHeads < 1 {
				t.Errorf("%s is family %s with %d KV heads, want %s", modelType, a.Family.Name, a.KVHeads, name)
			}
			if tensors, err := a.Tensors(); err != nil || len(tensors) < a.Layers {
				t.Errorf("%s: %d tensors, %v", modelType, len(tensors), err)
			}
		}
		if f.Grouping(2).Key == "" {
			t.Errorf("%s has no key for the number of KV heads", name)
		}
	}
}
