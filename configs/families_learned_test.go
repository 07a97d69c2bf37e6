package configs

import (
	"slices"
	"strings"
	"testing"

	"gqa/internal/activation"
)

// TestResolveLearnedAndALiBi: the sizes that configs of families without rotary positions (and Falcon) tell; what they leave
// out are the classes' defaults.
func TestResolveLearnedAndALiBi(t *testing.T) {
	for config, want := range map[string][]int{
		`{"model_type": "bloom"}`:       {250880, 64, 2, 8, 8, 8, 256, 2048},
		`{"model_type": "falcon"}`:      {65024, 4544, 32, 71, 1, 64, 18176, 2048},
		`{"model_type": "opt"}`:         {50272, 768, 12, 12, 12, 64, 3072, 2048},
		`{"model_type": "gpt_bigcode"}`: {50257, 768, 12, 12, 1, 64, 3072, 1024},
		`{"model_type": "mpt"}`:         {50368, 2048, 24, 16, 16, 128, 8192, 2048},
		// BLOOM as published.
		`{"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "seq_length": 1024}`: {250880, 1024, 24, 16, 16, 64, 4096, 1024},
		// The number of KV heads is given in several ways; multi_query takes precedence.
		`{"model_type": "falcon", "num_kv_heads": 71, "multi_query": true}`:                               {65024, 4544, 32, 71, 1, 64, 18176, 2048},
		`{"model_type": "falcon", "multi_query": false}`:                                                  {65024, 4544, 32, 71, 71, 64, 18176, 2048},
		`{"model_type": "falcon", "new_decoder_architecture": true}`:                                      {65024, 4544, 32, 71, 71, 64, 18176, 2048},
		`{"model_type": "RefinedWeb", "n_head": 128, "n_head_kv": 8, "hidden_size": 1024}`:                {65024, 1024, 32, 128, 8, 8, 4096, 2048},
		`{"model_type": "gpt_bigcode", "num_key_value_heads": 12}`:                                        {50257, 768, 12, 12, 1, 64, 3072, 1024},
		`{"model_type": "gpt_bigcode", "multi_query": false, "num_key_value_heads": 4}`:                   {50257, 768, 12, 12, 4, 64, 3072, 1024},
		`{"model_type": "mpt", "attn_config": {"attn_type": "multiquery_attention"}}`:                     {50368, 2048, 24, 16, 1, 128, 8192, 2048},
		`{"model_type": "mpt", "attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 4}}`: {50368, 2048, 24, 16, 4, 128, 8192, 2048},
		`{"model_type": "mpt", "attn_config": {"kv_n_heads": 4}}`:                                         {50368, 2048, 24, 16, 16, 128, 8192, 2048},
	} {
		if got := sizes(resolve(t, config)); !slices.Equal(got, want) {
			t.Errorf("%s: sizes %v, want %v", config, got, want)
		}
	}
}

// TestFamilyForms checks the blocks selected by the keys of a class with several variants.
func TestFamilyForms(t *testing.T) {
	type form struct {
		Residual
		Position
		Layout
		norms string // of a layer, and the final one
	}
	for _, c := range []struct {
		config string
		form
	}{
		{`{"model_type": "bloom"}`, form{Sequential, PositionALiBi, FusedPerHead, "input_layernorm post_attention_layernorm ln_f"}},
		{`{"model_type": "bloom", "apply_residual_connection_post_layernorm": true}`, form{Normed, PositionALiBi, FusedPerHead, "input_layernorm post_attention_layernorm ln_f"}},
		{`{"model_type": "falcon"}`, form{Parallel, PositionRope, FusedPerGroup, "input_layernorm - ln_f"}},
		{`{"model_type": "falcon", "alibi": true, "parallel_attn": false}`, form{Sequential, PositionALiBi, FusedPerGroup, "input_layernorm post_attention_layernorm ln_f"}},
		{`{"model_type": "falcon", "new_decoder_architecture": true}`, form{Parallel, PositionRope, FusedPerGroup, "ln_attn ln_mlp ln_f"}},
		{`{"model_type": "falcon", "new_decoder_architecture": true, "num_ln_in_parallel_attn": 2}`, form{Parallel, PositionRope, FusedPerGroup, "ln_attn ln_mlp ln_f"}},
		{`{"model_type": "falcon", "new_decoder_architecture": true, "num_ln_in_parallel_attn": 1}`, form{Parallel, PositionRope, FusedPerGroup, "input_layernorm - ln_f"}},
		{`{"model_type": "falcon", "num_ln_in_parallel_attn": 1}`, form{Parallel, PositionRope, FusedPerGroup, "input_layernorm - ln_f"}},
		{`{"model_type": "RefinedWeb"}`, form{Parallel, PositionRope, FusedPerGroup, "ln_attn ln_mlp ln_f"}},
		{`{"model_type": "opt"}`, form{Sequential, PositionLearned, Separate, "self_attn_layer_norm final_layer_norm final_layer_norm"}},
		{`{"model_type": "opt", "do_layer_norm_before": false}`, form{PostNorm, PositionLearned, Separate, "self_attn_layer_norm final_layer_norm -"}},
		{`{"model_type": "opt", "_remove_final_layer_norm": true}`, form{Sequential, PositionLearned, Separate, "self_attn_layer_norm final_layer_norm -"}},
		{`{"model_type": "opt", "layer_norm_elementwise_affine": false}`, form{Sequential, PositionLearned, Separate, "bare bare bare"}},
		{`{"model_type": "opt", "layer_norm_elementwise_affine": false, "do_layer_norm_before": false}`, form{PostNorm, PositionLearned, Separate, "bare bare -"}},
		{`{"model_type": "gpt_bigcode"}`, form{Sequential, PositionLearned, FusedBlocks, "ln_1 ln_2 ln_f"}},
		{`{"model_type": "gpt_bigcode", "multi_query": false}`, form{Sequential, PositionLearned, FusedPerHead, "ln_1 ln_2 ln_f"}},
		{`{"model_type": "mpt"}`, form{Sequential, PositionALiBi, FusedBlocks, "norm_1 norm_2 norm_f"}},
		{`{"model_type": "mpt", "attn_config": {"alibi": false}}`, form{Sequential, PositionLearned, FusedBlocks, "norm_1 norm_2 norm_f"}},
		{`{"model_type": "mpt", "attn_config": {"alibi": false, "fused_qkv": false}}`, form{Sequential, PositionLearned, Separate, "norm_1 norm_2 norm_f"}},
		{`{"model_type": "mpt", "attn_config": {"alibi": false}, "architectures": ["MptForCausalLM"]}`, form{Sequential, PositionALiBi, FusedBlocks, "norm_1 norm_2 norm_f"}},
		{`{"model_type": "mpt", "attn_config": {"alibi": false}, "architectures": ["MPTForCausalLM"]}`, form{Sequential, PositionLearned, FusedBlocks, "norm_1 norm_2 norm_f"}},
	} {
		a := resolve(t, c.config)
		norms := []string{normName(a.Family.Layer, AttnNorm), normName(a.Family.Layer, MLPNorm), normName(a.Family.Tensors, FinalNorm)}
		got := form{a.Residual, a.Position, a.Layout(), strings.Join(norms, " ")}
		if got != c.form {
			t.Errorf("%s: %+v, want %+v", c.config, got, c.form)
		}
	}
}

// normName returns the end of a norm's name, "bare" for one without weights, and "-" if there is none.
func normName(entries map[Role]TensorEntry, role Role) string {
	e, ok := entries[role]
	switch {
	case !ok:
		return "-"
	case e.Name == "":
		return "bare"
	}
	return e.Name[max(strings.LastIndexByte(e.Name, '.'), strings.LastIndexByte(e.Name, '}'))+1:]
}

// TestMPTKeys: the score scale, clipping and slopes of MPT's nested keys; transformers' own class has slopes to 2^-8 whatever
// its config.json says.
func TestMPTKeys(t *testing.T) {
	const attn = `"attn_config": {"alibi_bias_max": 16, "clip_qkv": 6, "softmax_scale": 0.25}`
	for config, alibiMax := range map[string]float64{
		`{"model_type": "mpt", ` + attn + `}`:                                      16,
		`{"model_type": "mpt", "architectures": ["MPTForCausalLM"], ` + attn + `}`: 16,
		`{"model_type": "mpt", "architectures": ["MptForCausalLM"], ` + attn + `}`: 8,
	} {
		if a := resolve(t, config); a.ALiBi.Max != alibiMax || a.ClipQKV != 6 || a.ScoreScale != 0.25 {
			t.Errorf("%s: slopes to 2^-%v, clipped to %v, scale %v", config, a.ALiBi.Max, a.ClipQKV, a.ScoreScale)
		}
	}
}

// TestFalconALiBi: biases count twice in files written by transformers 5, and a note says so.
func TestFalconALiBi(t *testing.T) {
	for config, coarse := range map[string]float64{
		`{"model_type": "falcon", "alibi": true}`:                                    1,
		`{"model_type": "falcon", "alibi": true, "transformers_version": "4.27.4"}`:  1,
		`{"model_type": "falcon", "alibi": true, "transformers_version": "5.17.0"}`:  2,
		`{"model_type": "falcon", "alibi": false, "transformers_version": "5.17.0"}`: 1,
	} {
		if a := resolve(t, config); a.ALiBi.Coarse != coarse || (len(a.Notes) == 1) != (coarse == 2) {
			t.Errorf("%s: biases count %v times, notes %q", config, a.ALiBi.Coarse, a.Notes)
		}
	}
}

func TestUnsupportedForms(t *testing.T) {
	for config, want := range map[string]string{
		`{"model_type": "mpt", "attn_config": {"qk_ln": true}}`:                          "attn_config.qk_ln",
		`{"model_type": "mpt", "attn_config": {"prefix_lm": true}}`:                      "attn_config.prefix_lm",
		`{"model_type": "mpt", "final_logit_softcapping": 30}`:                           "final_logit_softcapping",
		`{"model_type": "mpt", "ffn_config": {"ffn_type": "te_ln_mlp"}}`:                 "ffn_config.ffn_type",
		`{"model_type": "mpt", "ffn_config": {"ffn_act_fn": {"name": "gelu_new"}}}`:      "ffn_config.ffn_act_fn.name",
		`{"model_type": "mpt", "attn_config": {"rope": true}}`:                           "attn_config.rope",
		`{"model_type": "mpt", "norm_type": "rmsnorm"}`:                                  "norm_type",
		`{"model_type": "mpt", "logit_scale": "inv_sqrt_d_model"}`:                       "logit_scale",
		`{"model_type": "mpt", "attn_config": {"alibi_bias_max": 0}}`:                    "ALiBi",
		`{"model_type": "mpt", "attn_config": {"attn_type": "grouped_query_attention"}}`: "kv_n_heads",
		`{"model_type": "gpt_bigcode", "add_cross_attention": true}`:                     "add_cross_attention",
		`{"model_type": "falcon", "apply_residual_connection_post_layernorm": true}`:     "apply_residual_connection_post_layernorm",
		`{"model_type": "falcon", "new_decoder_architecture": true, "num_kv_heads": 8}`:  "8 kv heads do not divide 71 heads",
		`{"model_type": "bloom", "apply_residual_connection_post_layernorm": "yes"}`:     "want one of",
	} {
		if _, err := Resolve([]byte(config), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error about %q", config, err, want)
		}
	}
}

// TestOPTPadding: the class has a padding token unless config.json says that there is none.
func TestOPTPadding(t *testing.T) {
	for config, want := range map[string]int{
		`{"model_type": "opt"}`: 1, `{"model_type": "opt", "pad_token_id": 5}`: 5, `{"model_type": "opt", "pad_token_id": null}`: -1,
		`{"model_type": "bloom", "pad_token_id": 3}`: -1,
	} {
		if a := resolve(t, config); a.Padding != want {
			t.Errorf("%s: the padding token is %d, want %d", config, a.Padding, want)
		}
	}
}

// TestFoundryMLP: llm-foundry's config names its activation and block, which transformers' class ignores.
func TestFoundryMLP(t *testing.T) {
	type form struct {
		MLP
		activation.Func
		ffn, padding int
	}
	const config = `{"model_type": "mpt", "pad_token_id": 3, "ffn_config": {"ffn_type": "mptglu", "ffn_hidden_size": 96, "ffn_act_fn": {"name": "silu"}}}`
	for architecture, want := range map[string]form{
		"MPTForCausalLM": {Gated, activation.SiLU, 96, 3},
		"MptForCausalLM": {Plain, activation.GELU, 8192, -1},
	} {
		a := resolve(t, strings.Replace(config, "{", `{"architectures": ["`+architecture+`"], `, 1))
		if got := (form{a.MLP, a.Activation, a.FFN, a.Padding}); got != want || a.Has(Gate) != (want.MLP == Gated) {
			t.Errorf("%s: %v, want %v", architecture, got, want)
		}
	}
}
