package convert

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// TestFoundryOPT writes every OPT of the reference cases as llm-foundry's MPT, of as many KV heads as heads and of fewer: read
// back it has OPT's logits, and converts on. What does not fit there says why.
func TestFoundryOPT(t *testing.T) {
	for name, why := range map[string]string{
		"opt":         "",
		"opt-plain":   "",
		"opt-350m":    "MPTForCausalLM: width of embeddings is 48 there, 20 here",
		"opt-nofinal": "MPTForCausalLM: width of embeddings is 48 there, 72 here",
	} {
		t.Run(name, func(t *testing.T) {
			c := golden.Named(t, name)
			src := golden.Open(t, c.Dir)
			for _, groups := range append([]int{src.Arch.Heads}, c.Groups()...) {
				own := convertTo(t, c.Dir, Options{Groups: groups, Target: Own})
				to, config, reasons := neighbour(own.Arch, own.Config)
				if why != "" {
					if to != nil || len(reasons) != 1 || reasons[0].Error() != why {
						t.Fatalf("%d groups: %v %v, want %s", groups, to, reasons, why)
					}
					continue
				}
				out := filepath.Join(t.TempDir(), "out")
				d := viaNeighbour{stage: newPlan(t, c.Dir, Options{Groups: groups, Target: Own}), to: to, config: config}
				tensors, err := to.Tensors()
				if err != nil {
					t.Fatal(err)
				}
				var specs []checkpoints.Spec
				for _, x := range tensors {
					specs = append(specs, checkpoints.Spec{Name: x.Name, DType: checkpoints.F32, Shape: x.Shape})
				}
				if err := os.Mkdir(out, 0o777); err != nil {
					t.Fatal(err)
				}
				if err := d.write(context.Background(), out, specs, checkpoints.WriteOptions{}, ignore); err != nil {
					t.Fatal(err)
				}
				sameLogits(t, c, golden.Open(t, out), own)
				for _, g := range c.Groups() {
					if groups%g == 0 && groups > g {
						sameLogits(t, c, convertTo(t, out, Options{Groups: g}), convertTo(t, c.Dir, Options{Groups: g, Target: Own}))
					}
				}
			}
		})
	}
}

// sameLogits wants those of got equal to want's within 1e-5.
func sameLogits(t *testing.T, c *golden.Case, got, want *weights.Source) {
	t.Helper()
	if got.Arch.Family.Name != "mpt" || got.Arch.Unknown != nil {
		t.Errorf("%s, keys %q unknown", got.Arch.Family.Name, got.Arch.Unknown)
	}
	logits := func(src *weights.Source) []float32 {
		all, err := src.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(infer.New(cpu.New(), src.Arch, all).Logits(c.Batch()).F32())
	}
	a, b := logits(got), logits(want)
	for i := range b {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= 1e-5) {
			t.Fatalf("%d of %d KV heads: logit %d is %v, want %v", got.Arch.KVHeads, got.Arch.Heads, i, a[i], b[i])
		}
	}
}

// TestFoundryConfig: what llm-foundry's classes must read, key by key, as MPTConfig and MPTBlock take them.
func TestFoundryConfig(t *testing.T) {
	type object = map[string]any
	const sizes = `"vocab_size": 6, "d_model": 16, "n_layers": 2, "n_heads": 8, "max_seq_len": 8`
	foundry := object{"model_type": "mpt", "vocab_size": 6., "d_model": 16., "n_layers": 2., "n_heads": 8., "max_seq_len": 8.}
	for name, c := range map[string]struct {
		config string
		groups int
		want   object // beside foundry; nil: none of that
	}{
		"transformers' own, of defaults": {
			`{"model_type": "mpt", "architectures": ["MptForCausalLM"], "attn_config": {"model_type": ""}, "layer_norm_epsilon": 0.001, ` + sizes + `}`, 2,
			object{
				"architectures": []any{"MPTForCausalLM"}, "no_bias": true, "expansion_ratio": 4., "norm_type": "low_precision_layernorm",
				"layer_norm_epsilon": 0.001, "norm_eps": 0.001, "attn_config": object{
					"alibi": true, "alibi_bias_max": 8., "attn_impl": "torch", "attn_type": "grouped_query_attention", "kv_n_heads": 2.,
				},
			},
		},
		"llm-foundry's, of one KV head": {
			`{"model_type": "mpt", "architectures": ["MPTForCausalLM"], "norm_eps": 0.001, "no_bias": false, "ffn_config": {"ffn_type": "mptmlp"},
				"attn_config": {"alibi": true, "prefix_lm": false, "attn_impl": "triton", "clip_qkv": 6}, ` + sizes + `}`, 1,
			object{
				"architectures": []any{"MPTForCausalLM"}, "no_bias": false, "norm_eps": 0.001, "ffn_config": object{"ffn_type": "mptmlp"},
				"attn_config": object{"alibi": true, "attn_impl": "torch", "clip_qkv": 6., "attn_type": "multiquery_attention"},
			},
		},
		"an OPT": {
			optConfig, 4,
			object{
				"architectures": []any{"MPTForCausalLM"}, "no_bias": false, "norm_eps": 1e-5, "norm_type": "layernorm", "learned_pos_emb": true,
				"max_seq_len": 4., "pad_token_id": 1., "eos_token_id": 2., "tie_word_embeddings": true, "torch_dtype": "float32",
				"ffn_config":  object{"ffn_type": "mptmlp", "ffn_hidden_size": 5., "ffn_act_fn": object{"name": "relu"}},
				"attn_config": object{"alibi": false, "attn_impl": "torch", "attn_type": "grouped_query_attention", "kv_n_heads": 4.},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := convertTo(t, model{config: c.config}.write(t), Options{Groups: c.groups})
			var keys object
			if err := json.Unmarshal(got.Config, &keys); err != nil {
				t.Fatal(err)
			}
			for key, value := range foundry {
				if _, ok := c.want[key]; !ok {
					c.want[key] = value
				}
			}
			if !reflect.DeepEqual(keys, c.want) {
				t.Errorf("config.json is %v, want %v", keys, c.want)
			}
			if got.Arch.KVHeads != c.groups {
				t.Errorf("%d KV heads, want %d", got.Arch.KVHeads, c.groups)
			}
		})
	}
}
