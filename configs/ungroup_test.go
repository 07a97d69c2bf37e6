package configs

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestUngrouped checks the changes that turn each family's config.json from fewer KV heads into as many as heads.
func TestUngrouped(t *testing.T) {
	for _, c := range []struct {
		config string
		want   map[string]any // of what the changes leave
	}{
		{`{"model_type": "llama", "num_key_value_heads": 2, "num_hidden_layers": 2}`, map[string]any{"model_type": "llama", "num_key_value_heads": 32, "num_hidden_layers": 2.}},
		{
			`{"model_type": "llama", "num_key_value_heads": 8, "num_hidden_layers": 2, "num_key_value_heads_per_layer": [8, 2]}`,
			map[string]any{"model_type": "llama", "num_key_value_heads": 32, "num_hidden_layers": 2.},
		},
		{
			`{"model_type": "mistral", "num_attention_heads": 12, "head_dim": 8, "num_key_value_heads": 3}`,
			map[string]any{"model_type": "mistral", "num_attention_heads": 12., "head_dim": 8., "num_key_value_heads": 12},
		}, // the class has 8 by default
		{`{"model_type": "opt", "num_key_value_heads": 2}`, map[string]any{"model_type": "opt"}},
		{`{"model_type": "t5", "num_key_value_heads": 2, "num_key_value_heads_by_site": {"cross": 2, "decoder_self": 2, "encoder_self": 8}}`, map[string]any{"model_type": "t5"}},
		{`{"model_type": "gpt_bigcode"}`, map[string]any{"model_type": "gpt_bigcode", "multi_query": false, "num_key_value_heads": 12}},
		{
			`{"model_type": "gpt_bigcode", "multi_query": false, "num_key_value_heads": 3}`,
			map[string]any{"model_type": "gpt_bigcode", "multi_query": false, "num_key_value_heads": 12},
		},
		{
			`{"model_type": "chatglm", "multi_query_attention": true, "multi_query_group_num": 2}`,
			map[string]any{"model_type": "chatglm", "multi_query_attention": false, "multi_query_group_num": 32},
		},
		{
			`{"model_type": "mpt", "attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 4, "alibi": true}}`,
			map[string]any{"model_type": "mpt", "attn_config": map[string]any{"attn_type": "multihead_attention", "alibi": true}},
		},
		{`{"model_type": "falcon"}`, map[string]any{"model_type": "falcon", "multi_query": false, "num_kv_heads": 71}},
		{
			`{"model_type": "falcon", "parallel_attn": false, "multi_query": false, "num_kv_heads": 1, "num_attention_heads": 8, "hidden_size": 64}`,
			map[string]any{"model_type": "falcon", "parallel_attn": false, "multi_query": false, "num_kv_heads": 8, "num_attention_heads": 8., "hidden_size": 64.},
		},
		{
			`{"model_type": "falcon", "new_decoder_architecture": true, "num_kv_heads": 1}`,
			map[string]any{"model_type": "falcon", "new_decoder_architecture": true, "num_kv_heads": 71},
		},
		{`{"model_type": "RefinedWeb", "n_head_kv": 1}`, map[string]any{"model_type": "RefinedWeb", "n_head_kv": 71}},
	} {
		a := resolve(t, c.config)
		full, changes, err := a.Ungrouped([]byte(c.config))
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		var keys map[string]any
		if err := json.Unmarshal([]byte(c.config), &keys); err != nil {
			t.Fatal(err)
		}
		setKeys(keys, changes)
		if !reflect.DeepEqual(keys, c.want) {
			t.Errorf("%s: %v, want %v", c.config, keys, c.want)
		}
		for _, s := range full.Sites() {
			if full.SiteKVHeads(s) != a.Heads || full.LayerKVHeads != nil || full.Layout() != full.Family.Attention.Layout {
				t.Errorf("%s: %d KV heads at %s, %s", c.config, full.SiteKVHeads(s), s, full.Layout())
			}
		}
		if again, changes, err := full.Ungrouped([]byte(c.config)); again != full || changes != nil || err != nil {
			t.Errorf("%s: changed again by %v (%v)", c.config, changes, err)
		}
	}
}

func TestSetKey(t *testing.T) {
	keys := map[string]any{"a": 1, "b": map[string]any{"c": 2, "d": 3}}
	for path, value := range map[string]any{"a": nil, "b.c": nil, "none": nil, "no.ne": nil, "b.e": 4, "f.g": 5} {
		SetKey(keys, path, value)
	}
	if want := map[string]any{"b": map[string]any{"d": 3, "e": 4}, "f": map[string]any{"g": 5}}; !reflect.DeepEqual(keys, want) {
		t.Errorf("%v, want %v", keys, want)
	}
}
