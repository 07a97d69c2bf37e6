package configs

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// with returns a config.json of a family with the given keys.
func with(family, keys string) string {
	return strings.Replace(`{"model_type": "`+family+`", `+keys+`}`, ", }", "}", 1)
}

func TestLayerWindow(t *testing.T) {
	for _, c := range []struct {
		config string
		want   []int // of the first layers
	}{
		{with("llama", ""), []int{0, 0}},
		{with("mistral", ""), []int{4096, 4096}},
		{with("mistral", `"sliding_window": null`), []int{0, 0}},
		{with("mistral", `"sliding_window": 8`), []int{8, 8}},
		{with("starcoder2", ""), []int{0, 0}},
		{with("starcoder2", `"sliding_window": 8`), []int{8, 8}},
		{with("phi3", ""), []int{0, 0}},
		{with("phi3", `"sliding_window": 2047`), []int{2047}},
		{with("qwen2", `"sliding_window": 8, "max_window_layers": 0`), []int{0, 0}},
		{with("qwen2", `"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 0`), []int{0, 0}},
		{with("qwen2", `"use_sliding_window": true, "max_window_layers": 1`), []int{0, 4096, 4096}},
		{with("qwen2", `"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0`), []int{8, 8}},
		{with("qwen2", `"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0`), []int{0, 0}},
		{with("qwen3", `"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0, "num_hidden_layers": 2,
			"layer_types": ["full_attention", "sliding_attention"]`), []int{0, 8}},
		{with("qwen3", `"num_hidden_layers": 2, "layer_types": ["full_attention", "full_attention"]`), []int{0, 0}},
		{with("olmo3", `"num_hidden_layers": 6`), []int{4096, 4096, 4096, 0, 4096, 4096}},
		{with("olmo3", `"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]`), []int{0, 4096}},
	} {
		a := resolve(t, c.config)
		for layer, want := range c.want {
			if got := a.LayerWindow(layer); got != want {
				t.Errorf("%s: layer %d has a window of %d, want %d", c.config, layer, got, want)
			}
		}
	}
}

// TestScales reads factors, offsets and clipping limits.
func TestScales(t *testing.T) {
	type scales struct{ embed, residual, logit, score, offset, clip float64 }
	for config, want := range map[string]scales{
		with("llama", ""): {1, 1, 1, 0, 0, 0},
		with("gemma", ""): {math.Sqrt(3072), 1, 1, 0, 1, 0},
		with("gemma", `"hidden_size": 64, "use_bidirectional_attention": null`): {8, 1, 1, 0, 1, 0},
		with("cohere", ""):                     {1, 1, 0.0625, 0, 0, 0},
		with("cohere", `"logit_scale": 0.5`):   {1, 1, 0.5, 0, 0, 0},
		with("olmo", `"clip_qkv": null`):       {1, 1, 1, 0, 0, 0},
		with("olmo", `"clip_qkv": 8.0`):        {1, 1, 1, 0, 0, 8},
		with("granite", ""):                    {1, 1, 1, 1, 0, 0},
		with("granite", `"logits_scaling": 8`): {1, 1, 0.125, 1, 0, 0},
		with("granite", `"embedding_multiplier": 12, "residual_multiplier": 0.25, "attention_multiplier": 0.5`): {12, 0.25, 1, 0.5, 0, 0},
	} {
		a := resolve(t, config)
		if got := (scales{a.EmbedScale, a.ResidualScale, a.LogitScale, a.ScoreScale, a.NormOffset, a.ClipQKV}); got != want {
			t.Errorf("%s: %+v, want %+v", config, got, want)
		}
	}
}

// TestPadding reads the class's default, null, and what no vocabulary has.
func TestPadding(t *testing.T) {
	for config, want := range map[string]int{
		with("llama", ""): -1, with("llama", `"pad_token_id": 0`): 0, with("llama", `"pad_token_id": -1`): 31999,
		with("llama", `"pad_token_id": 32000`): -1, with("olmo", ""): 1, with("olmo", `"pad_token_id": null`): -1,
		with("gemma", `"pad_token_id": 7`): 7, with("phi3", ""): 32000, with("gptj", `"pad_token_id": 3`): -1,
	} {
		if got := resolve(t, config).Padding; got != want {
			t.Errorf("%s: padding token %d, want %d", config, got, want)
		}
	}
}

// TestChatGLM checks how its code indicates fewer KV heads, and where it has biases.
func TestChatGLM(t *testing.T) {
	const groups = `"multi_query_group_num": 2`
	for _, c := range []struct {
		keys              string
		kvHeads           int
		layout            Layout
		attnBias, mlpBias bool
		theta             float64
	}{
		{groups, 32, FusedPerHead, false, false, 10000},
		{groups + `, "multi_query_attention": false, "add_qkv_bias": true`, 32, FusedPerHead, true, false, 10000},
		{groups + `, "multi_query_attention": true, "add_bias_linear": true`, 2, FusedBlocks, true, true, 10000},
		{`"multi_query_attention": true, "rope_ratio": 50`, 1, FusedBlocks, false, false, 500000},
		{`"multi_query_attention": true, "multi_query_group_num": 32`, 32, FusedBlocks, false, false, 10000},
	} {
		a := resolve(t, with("chatglm", c.keys))
		if a.KVHeads != c.kvHeads || a.Layout() != c.layout || a.AttnBias != c.attnBias || a.MLPBias != c.mlpBias || a.Rope.Theta != c.theta {
			t.Errorf("%s: %d KV heads %s, biases %v and %v, theta %g; want %+v", c.keys, a.KVHeads, a.Layout(), a.AttnBias, a.MLPBias, a.Rope.Theta, c)
		}
	}
	if got := resolve(t, with("chatglm", "")).WithKVHeads(8).Layout(); got != FusedBlocks {
		t.Errorf("grouped chatglm lies %s", got)
	}
}

func TestLongRope(t *testing.T) {
	const sizes = `"hidden_size": 32, "num_attention_heads": 4, "rope_theta": 100, "max_position_embeddings": 128, `
	for _, name := range []string{"longrope", "su", "yarn"} {
		a := resolve(t, with("phi3", sizes+`"original_max_position_embeddings": 16, "rope_scaling": {"type": "`+name+`",
			"short_factor": [1, 2, 1, 1], "long_factor": [4, 5.5, 1, 1], "original_max_position_embeddings": 64}`))
		short, long := a.Rope.InvFreq(), a.Rope.LongInvFreq()
		for i, want := range [][2]float64{{1, 0.25}, {math.Pow(100, -0.25) / 2, math.Pow(100, -0.25) / 5.5}} {
			if math.Abs(short[i]-want[0]) > 1e-12 || math.Abs(long[i]-want[1]) > 1e-12 {
				t.Errorf("%s: plane %d turns by %g, or %g; want %v", name, i, short[i], long[i], want)
			}
		}
		if want := math.Sqrt(1 + math.Log(8)/math.Log(16)); a.Rope.OriginalContext != 16 || math.Abs(a.Rope.Scale()-want) > 1e-12 {
			t.Errorf("%s: context %g, scale %g, want 16 and %g", name, a.Rope.OriginalContext, a.Rope.Scale(), want)
		}
	}
	for factors, want := range map[string]float64{
		`"attention_factor": 1.5`: 1.5, `"factor": 1.0`: 1, `"factor": 64`: math.Sqrt(2.5),
	} {
		a := resolve(t, with("phi3", sizes+`"original_max_position_embeddings": 16, "rope_parameters": {"rope_type": "longrope",
			"short_factor": [1, 1, 1, 1], "long_factor": [1, 1, 1, 1], `+factors+`}`))
		if got := a.Rope.Scale(); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: scale %g, want %g", factors, got, want)
		}
	}
	if resolve(t, with("llama", "")).Rope.LongInvFreq() != nil {
		t.Error("llama has frequencies for long sequences")
	}
}

func TestBlocksNameWhatIsWrong(t *testing.T) {
	const longrope = `"hidden_size": 32, "num_attention_heads": 4, "rope_scaling": {"type": "longrope", `
	for config, want := range map[string]string{
		with("mistral", `"sliding_window": 0`):                                        "sliding_window is 0, want a whole number from 1",
		with("mistral", `"sliding_window": "all"`):                                    `sliding_window is "all", want a number`,
		with("qwen2", `"use_sliding_window": "yes"`):                                  `use_sliding_window is "yes", want true or false`,
		with("qwen3", `"layer_types": ["full_attention"]`):                            "layer_types has 1 entries for 32 layers",
		with("qwen3", `"layer_types": "full_attention"`):                              `layer_types is "full_attention", want a list`,
		with("qwen3", `"num_hidden_layers": 1, "layer_types": ["linear_attention"]`):  `layer_types has "linear_attention" for layer 0, want full_attention or sliding_attention`,
		with("qwen3", `"num_hidden_layers": 1, "layer_types": ["sliding_attention"]`): "there is no sliding_window in use",
		with("gemma", `"use_bidirectional_attention": true`):                          "use_bidirectional_attention is true",
		with("olmo", `"clip_qkv": -1`):                                                "clipped to ±-1, want a positive number",
		with("stablelm", `"qk_layernorm": 1`):                                         "qk_layernorm is 1, want true or false",
		with("chatglm", `"rmsnorm": false`):                                           "rmsnorm is false",
		with("chatglm", `"post_layer_norm": false`):                                   "post_layer_norm is false",
		with("chatglm", `"pre_seq_len": 128`):                                         "prefix tuning is not supported",
		with("chatglm", `"multi_query_attention": "true"`):                            `multi_query_attention is "true", want true or false`,
		with("gptj", `"rotary_dim": 512`):                                             "512 rotary dims",
		with("llama", `"rope_parameters": {"full_attention": {"rope_theta": 1}}`):     "has an object for full_attention",
		with("phi3", longrope+`"short_factor": [1], "long_factor": [1]}`):             "short_factor has 1 numbers and long_factor 1, want 4",
		with("phi3", longrope+`"short_factor": ["a"], "long_factor": [1, 1, 1, 1]}`):  `has "a" in short_factor, want positive numbers`,
		with("phi3", longrope+`"short_factor": [1, 1, 1, 0], "long_factor": [1]}`):    "has 0 in short_factor, want positive numbers",
		with("phi3", `"original_max_position_embeddings": 1, `+longrope+`"short_factor": [1, 1, 1, 1], "long_factor": [1, 1, 1, 1]}`): "original_max_position_embeddings is 1",
	} {
		_, err := Resolve([]byte(config), "")
		wantError(t, err, want)
	}
}

// TestConditionalTensors checks the tensors that a condition adds or removes.
func TestConditionalTensors(t *testing.T) {
	for _, c := range []struct {
		config    string
		has, none []string
	}{
		{with("phi", `"tie_word_embeddings": true`), []string{"lm_head.bias"}, []string{"lm_head.weight", "model.layers.0.self_attn.q_layernorm.weight"}},
		{with("phi", `"qk_layernorm": true`), []string{"lm_head.weight", "model.layers.0.self_attn.q_layernorm.bias"}, []string{"model.layers.0.post_attention_layernorm.weight"}},
		{with("olmo", ""), []string{"lm_head.weight"}, []string{"model.norm.weight", "model.layers.0.input_layernorm.weight"}},
		{with("stablelm", `"num_key_value_heads": 2`), []string{"model.layers.0.post_attention_layernorm.bias"}, []string{"model.layers.0.self_attn.q_proj.bias"}},
		{
			with("stablelm", `"use_parallel_residual": true, "qk_layernorm": true, "num_key_value_heads": 2`),
			[]string{"model.layers.0.self_attn.q_layernorm.norms.31.weight", "model.layers.0.self_attn.k_layernorm.norms.1.weight"},
			[]string{"model.layers.0.post_attention_layernorm.weight", "model.layers.0.self_attn.k_layernorm.norms.2.weight"},
		},
		{with("cohere", `"use_qk_norm": true`), []string{"model.layers.0.self_attn.k_norm.weight"}, []string{"lm_head.weight", "model.norm.bias"}},
		{with("starcoder2", `"use_bias": false`), []string{"model.norm.bias"}, []string{"model.layers.0.mlp.c_fc.bias", "lm_head.weight"}},
	} {
		shapes := shapesOf(t, resolve(t, c.config))
		for _, name := range c.has {
			if shapes[name] == nil {
				t.Errorf("%s: there is no %s", c.config, name)
			}
		}
		for _, name := range c.none {
			if shapes[name] != nil {
				t.Errorf("%s: there is a %s", c.config, name)
			}
		}
	}
}

// TestStackedParams checks that the tensors of all heads form one weight, in order.
func TestStackedParams(t *testing.T) {
	a := resolve(t, small("stablelm", `"qk_layernorm": true, "num_key_value_heads": 2`))
	params, err := a.Params()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(params, func(p Param) bool { return p.Role == KNorm })
	const name = "model.layers.0.self_attn.k_layernorm.norms."
	if got, want := fmt.Sprintf("%+v", params[i]), fmt.Sprintf("%+v", Param{
		Name: "layers.0.k_norm.weight", Role: KNorm, Shape: []int{2, 2}, Stored: []int{2, 2}, KVHeads: 2,
		Tensor: name + "0.weight", Parts: []string{name + "0.weight", name + "1.weight"},
	}); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	if !params[i].IsNorm() || len(params[i].Tensors()) != 2 || a.NormDim(KNorm) != 2 || params[i+1].Role == KNorm {
		t.Errorf("%d params of keys' norms, over %d dims", len(params), a.NormDim(KNorm))
	}
}

// TestGateUp splits a fused tensor into gate and up.
func TestGateUp(t *testing.T) {
	params, err := resolve(t, small("phi3", `"num_key_value_heads": 2`)).Params()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range params {
		first := map[Role]int{Gate: 0, Up: 12}
		if at, ok := first[p.Role]; ok && (len(p.Rows) != 12 || p.Rows[0] != at || p.Rows[11] != at+11 || p.Stored[0] != 24) {
			t.Errorf("%+v, want rows from %d on", p, at)
		}
	}
}
