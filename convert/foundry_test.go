package convert

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestFoundryConfig compares, key by key, with what llm-foundry's MPTConfig and MPTBlock read.
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
			got := convertTo(t, model{config: c.config}.write(t), Options{Goal: Groups(c.groups)})
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
