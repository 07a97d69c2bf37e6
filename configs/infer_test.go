package configs

import (
	"reflect"
	"strings"
	"testing"
)

// TestInfer derives a config.json from the shapes of a matching checkpoint: everything but what shapes do not determine.
func TestInfer(t *testing.T) {
	for name, config := range map[string]string{
		"llama":                 smallLlama,
		"llama of one KV head":  strings.Replace(smallLlama, `"num_key_value_heads": 2`, `"num_key_value_heads": 1`, 1),
		"llama, wide heads":     strings.Replace(smallLlama, "{", `{"head_dim": 6, "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true, `, 1),
		"gpt_neox":              smallNeoX,
		"gpt_neox without bias": strings.Replace(smallNeoX, "{", `{"attention_bias": false, "tie_word_embeddings": true, `, 1),
		"gpt_neox, grouped":     strings.Replace(smallNeoX, "{", `{"num_key_value_heads": 2, `, 1),
		"gpt2":                  smallGPT2,
		"gpt2, own head":        strings.Replace(smallGPT2, "{", `{"tie_word_embeddings": false, "n_inner": 20, `, 1),
		"gpt2, multi-query":     strings.Replace(smallGPT2, "{", `{"num_key_value_heads": 1, `, 1),
		"mistral":               small("mistral", `"num_key_value_heads": 2`),
		"qwen2":                 small("qwen2", `"tie_word_embeddings": true`),
		"qwen3 with biases":     small("qwen3", `"head_dim": 4, "attention_bias": true`),
		"gemma":                 small("gemma", `"head_dim": 4, "tie_word_embeddings": false`),
		"olmo":                  small("olmo", `"attention_bias": true`),
		"olmo2":                 small("olmo2", `"num_key_value_heads": 1`),
		"stablelm":              small("stablelm", `"use_qkv_bias": true`),
		"stablelm, normed":      small("stablelm", `"qk_layernorm": true, "num_key_value_heads": 2`),
		"phi":                   small("phi", `"qk_layernorm": true`),
		"phi3":                  small("phi3", `"num_key_value_heads": 2`),
		"starcoder2":            small("starcoder2", `"num_key_value_heads": 4, "use_bias": false`),
		"cohere":                small("cohere", `"use_qk_norm": true, "attention_bias": true`),
		"granite":               small("granite", `"mlp_bias": true`),
		"gptj":                  small("gptj", `"n_embd": 256, "n_layer": 1, "n_head": 4, "n_inner": 12`),
		"deepseek_v2":           small("deepseek_v2", latent+`, "q_lora_rank": null, "mlp_bias": true`),
		"deepseek_v3":           small("deepseek_v3", latent+`, "q_lora_rank": 6, "attention_bias": true`),
		"chatglm":               small("chatglm", chatglm+`, "add_qkv_bias": true`),
		"chatglm of groups":     small("chatglm", chatglm+`, "multi_query_attention": true, "multi_query_group_num": 2`),
		"chatglm, multi-query":  small("chatglm", chatglm+`, "multi_query_attention": true, "multi_query_group_num": 1, "add_bias_linear": true`),
	} {
		t.Run(name, func(t *testing.T) {
			want := resolve(t, config)
			want.Unknown = nil // keys that the family spells in another way
			shapes := shapesOf(t, want)
			inferred, err := Infer(want.Family.Name, want.Heads, shapes)
			if err != nil {
				t.Fatal(err)
			}
			got := resolve(t, string(inferred))
			if err := got.Bind(shapes); err != nil {
				t.Fatal(err)
			}
			if want.Position == PositionRope {
				want.Context = got.Context // not determined by shapes
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("inferred %s:\n%+v, want\n%+v", inferred, got, want)
			}
		})
	}
}

// small returns a small config.json of a family, in the most common spelling.
func small(family, more string) string {
	return `{"model_type": "` + family + `", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
		"num_attention_heads": 4, ` + more + `}`
}

const chatglm = `"padded_vocab_size": 10, "ffn_hidden_size": 12, "num_layers": 1, "kv_channels": 2`

// TestInferWithoutPrefix finds biases and sizes under the other prefix.
func TestInferWithoutPrefix(t *testing.T) {
	a := resolve(t, smallGPT2)
	shapes := map[string][]int{}
	for name, shape := range shapesOf(t, a) {
		shapes[strings.TrimPrefix(name, "transformer.")] = shape
	}
	inferred, err := Infer("gpt2", 4, shapes)
	if err != nil {
		t.Fatal(err)
	}
	if got := resolve(t, string(inferred)); !reflect.DeepEqual(sizes(got), sizes(a)) {
		t.Errorf("sizes %v, want %v", sizes(got), sizes(a))
	}
}

func TestInferNamesWhatIsWrong(t *testing.T) {
	shapes := shapesOf(t, resolve(t, smallLlama)) // 8 query dims, 4 key dims
	for _, c := range []struct {
		family string
		heads  int
		shapes map[string][]int
		want   string
	}{
		{"elmo", 4, shapes, `family is "elmo", which is none of the `},
		{"llama", 0, shapes, "heads is 0, want the checkpoint's number of query heads"},
		{"llama", 3, shapes, "heads is 3, which does not divide the 8 query dims of the tensors"},
		{"llama", 1, shapes, "heads is 1, but heads of 8 dims do not fit the 4 key dims of the tensors"},
		{"gpt2", 4, shapes, "no tensor has a name that family gpt2 gives to its layers' (such as transformer.h.0.ln_1.weight)"},
		{"llama", 4, nil, "no tensor has a name that family llama gives"},
		{"llama", 4, map[string][]int{".weight": nil}, "no tensor has a name that family llama gives"},
	} {
		_, err := Infer(c.family, c.heads, c.shapes)
		wantError(t, err, c.want)
	}
}

// TestInferOfParts: Bind reports what is missing or has a wrong shape.
func TestInferOfParts(t *testing.T) {
	for _, shapes := range []map[string][]int{
		{"model.layers.0.self_attn.k_proj.weight": {4, 8}},
		{"model.layers.0.self_attn.q_proj.weight": {8}},
		{"model.layers.0.self_attn.q_proj.weight": {0, 0}, "model.layers.0.self_attn.k_proj.weight": {0, 0}},
	} {
		inferred, err := Infer("llama", 4, shapes)
		if err != nil {
			t.Errorf("%v: %v", shapes, err)
			continue
		}
		if a, err := Resolve(inferred, ""); err == nil {
			wantError(t, a.Bind(shapes), "missing: model.embed_tokens.weight [32000 ")
		}
	}
}

// TestInferVariants: the tensors determine the variant of a class.
func TestInferVariants(t *testing.T) {
	for _, config := range []string{
		`{"model_type": "opt", "vocab_size": 10, "hidden_size": 8, "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 12,
			"max_position_embeddings": 16, "word_embed_proj_dim": 6, "do_layer_norm_before": false}`,
		`{"model_type": "gpt_bigcode", "vocab_size": 10, "n_embd": 8, "n_head": 4, "n_layer": 2, "n_positions": 16, "multi_query": false}`,
		`{"model_type": "falcon", "vocab_size": 10, "hidden_size": 8, "num_attention_heads": 4, "num_hidden_layers": 2, "num_kv_heads": 2,
			"new_decoder_architecture": true}`,
	} {
		a := resolve(t, config)
		shapes := shapesOf(t, a)
		data, err := Infer(a.Family.Name, a.Heads, shapes)
		if err != nil {
			t.Fatal(err)
		}
		got := resolve(t, string(data))
		if err := got.Bind(shapes); err != nil || got.KVHeads != a.KVHeads || got.Residual != a.Residual || got.Context != a.Context {
			t.Errorf("%s: inferred %s: %v", config, data, err)
		}
	}
}
