package weights_test

import (
	"encoding/json"
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

// former describes the tensors of a family's first checkpoints: the parts of each fused tensor, and the other names, by parts
// of the names of today; and how the keys of config.json were called.
type former struct {
	golden, modelType string
	fused             map[string][]string // new name in a layer -> the layer's tensors that it is made of
	names             []string            // old, new, …
	keys              map[string]string
	set               map[string]any
}

var formers = []former{
	{
		golden: "phi", modelType: "phi-msft",
		fused: map[string][]string{"self_attn.Wqkv": {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
		names: []string{
			"model.embed_tokens", "transformer.embd.wte", "model.final_layernorm", "lm_head.ln", "lm_head", "lm_head.linear", "model.layers", "transformer.h",
			"input_layernorm", "ln", "self_attn.Wqkv", "mixer.Wqkv", "self_attn.dense", "mixer.out_proj",
		},
		keys: map[string]string{
			"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "intermediate_size": "n_inner",
			"max_position_embeddings": "n_positions", "layer_norm_eps": "layer_norm_epsilon", "hidden_act": "activation_function",
		},
	},
	{
		golden: "olmo", modelType: "hf_olmo",
		fused: map[string][]string{
			"att_proj": {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, "ff_proj": {"mlp.up_proj", "mlp.gate_proj"},
		},
		names: []string{
			"model.embed_tokens", "model.transformer.wte", "lm_head", "model.transformer.ff_out", "model.layers", "model.transformer.blocks",
			"self_attn.o_proj", "attn_out", "mlp.down_proj", "ff_out",
		},
		keys: map[string]string{
			"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "vocab_size": "embedding_size",
			"max_position_embeddings": "max_sequence_length", "tie_word_embeddings": "weight_tying",
		},
		set: map[string]any{"rope": true, "include_bias": false, "block_type": "sequential", "vocab_size": 1},
	},
	{
		golden: "stablelm", modelType: "stablelm_epoch",
		keys: map[string]string{"layer_norm_eps": "norm_eps"},
		set:  map[string]any{"rotary_scaling_factor": 1.0},
	},
}

// TestFormer reads checkpoints as they were first published, and the same as transformers' class has them, alike.
func TestFormer(t *testing.T) {
	for _, f := range formers {
		t.Run(f.modelType, func(t *testing.T) {
			want := golden.Open(t, golden.Named(t, f.golden).Dir)
			got := golden.Open(t, f.write(t, want))
			a, err := want.All(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b, err := got.All(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !maps.EqualFunc(a, b, slices.Equal[[]float32]) {
				t.Errorf("weights %v, want %v", slices.Sorted(maps.Keys(b)), slices.Sorted(maps.Keys(a)))
			}
			x, y := *want.Arch, *got.Arch
			if x.HeadDim != y.HeadDim || x.Heads != y.Heads || x.Rope.Dim != y.Rope.Dim || x.Rope.Theta != y.Rope.Theta || x.NormEps != y.NormEps ||
				x.Activation != y.Activation || x.Residual != y.Residual || x.FFN != y.FFN || x.Tied != y.Tied || x.Context != y.Context {
				t.Errorf("architecture %+v, want %+v", y, x)
			}
			if len(got.Arch.Unknown) > 0 {
				t.Errorf("keys %v are unknown", got.Arch.Unknown)
			}
		})
	}
}

// write makes the former checkpoint of a golden one.
func (f former) write(t *testing.T, src *weights.Source) string {
	t.Helper()
	data, specs := map[string][]string{}, []checkpoints.Spec{}
	add := func(name string, parts ...string) {
		first, _ := src.Tensor(parts[0])
		spec := first.Spec()
		spec.Shape = slices.Clone(spec.Shape)
		spec.Shape[0] = 0
		for _, part := range parts {
			x, _ := src.Tensor(part)
			spec.Shape[0] += x.Shape[0]
		}
		spec.Name = strings.NewReplacer(f.names...).Replace(name)
		data[spec.Name], specs = parts, append(specs, spec)
	}
	for _, name := range src.Names() {
		fused := ""
		for into, parts := range f.fused {
			for i, part := range parts {
				if strings.Contains(name, part) {
					fused = into
					if i == 0 {
						var all []string
						for _, p := range parts {
							all = append(all, strings.Replace(name, part, p, 1))
						}
						add(strings.Replace(name, part, into, 1), all...)
					}
				}
			}
		}
		if fused == "" {
			add(name, name)
		}
	}
	dir := t.TempDir()
	err := checkpoints.Write(dir, specs, checkpoints.WriteOptions{}, func(s checkpoints.Spec, w io.Writer) error {
		for _, part := range data[s.Name] {
			x, _ := src.Tensor(part)
			if _, err := x.WriteTo(w); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.writeConfig(t, dir, src)
	return dir
}

func (f former) writeConfig(t *testing.T, dir string, src *weights.Source) {
	t.Helper()
	config, err := weights.RewriteConfig(src.Config, func(keys map[string]any) {
		for now, then := range f.keys {
			keys[then] = keys[now]
			delete(keys, now)
		}
		maps.Copy(keys, f.set)
		keys["model_type"] = f.modelType
		rope, _ := keys["rope_parameters"].(map[string]any)
		switch f.modelType {
		case "phi-msft":
			for _, key := range []string{"rope_parameters", "qk_layernorm", "attention_dropout"} {
				delete(keys, key)
			}
			keys["rotary_dim"], keys["n_head_kv"] = src.Arch.Rope.Dim, nil
			delete(keys, "num_key_value_heads")
		case "hf_olmo":
			keys["n_kv_heads"], keys["mlp_hidden_size"], keys["rope_theta"] = nil, 2*src.Arch.FFN, rope["rope_theta"]
			for _, key := range []string{"rope_parameters", "num_key_value_heads", "intermediate_size", "hidden_act", "attention_bias"} {
				delete(keys, key)
			}
		case "stablelm_epoch":
			keys["rope_pct"], keys["rope_theta"] = rope["partial_rotary_factor"], rope["rope_theta"]
			delete(keys, "rope_parameters")
		}
	})
	if err != nil || !json.Valid(config) {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		t.Fatal(err)
	}
}
