package configs

import (
	"reflect"
	"slices"
	"testing"

	"gqa/internal/activation"
	"gqa/internal/alloc"
)

func resolve(t testing.TB, config string) *Arch {
	t.Helper()
	a, err := Resolve([]byte(config), "")
	if err != nil {
		t.Fatalf("%s: %v", config, err)
	}
	return a
}

// The sizes of an Arch that a config.json tells, in the order of its fields.
func sizes(a *Arch) []int {
	return []int{a.Vocab, a.Dim, a.Layers, a.Heads, a.KVHeads, a.HeadDim, a.FFN, a.Context}
}

func TestResolveSizes(t *testing.T) {
	for config, want := range map[string][]int{
		// The classes' defaults.
		`{"model_type": "llama"}`:    {32000, 4096, 32, 32, 32, 128, 11008, 2048},
		`{"model_type": "gpt2"}`:     {50257, 768, 12, 12, 12, 64, 3072, 1024},
		`{"model_type": "gpt_neox"}`: {50432, 6144, 44, 64, 64, 96, 24576, 2048},
		// null is missing; what follows from other keys follows from those that are there.
		`{"model_type": "llama", "num_attention_heads": 16, "num_key_value_heads": null, "head_dim": null}`: {32000, 4096, 32, 16, 16, 256, 11008, 2048},
		`{"model_type": "llama", "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 7}`:                {7, 4096, 32, 32, 8, 64, 11008, 2048},
		`{"model_type": "gpt2", "n_embd": 48, "n_head": 4, "n_inner": null}`:                                {50257, 48, 12, 4, 4, 12, 192, 1024},
		`{"model_type": "gpt2", "n_embd": 48, "n_head": 4, "n_inner": 100}`:                                 {50257, 48, 12, 4, 4, 12, 100, 1024},
		// A head dim that does not come out even is rounded down, as the classes do.
		`{"model_type": "gpt2", "n_embd": 50, "n_head": 4}`: {50257, 50, 12, 4, 4, 12, 200, 1024},
		// The first of several spellings counts.
		`{"model_type": "gpt2", "hidden_size": 36, "num_attention_heads": 3}`:                {50257, 36, 12, 3, 3, 12, 144, 1024},
		`{"model_type": "gpt2", "n_embd": 48, "hidden_size": 36, "num_attention_heads": 12}`: {50257, 48, 12, 12, 12, 4, 192, 1024},
	} {
		if got := sizes(resolve(t, config)); !slices.Equal(got, want) {
			t.Errorf("%s: sizes %v, want %v", config, got, want)
		}
	}
}

func TestResolveChoices(t *testing.T) {
	llama, neox, gpt2 := resolve(t, `{"model_type": "llama"}`), resolve(t, `{"model_type": "gpt_neox"}`), resolve(t, `{"model_type": "gpt2"}`)
	type blocks struct {
		Norm
		MLP
		Residual
		Position
		activation.Func
		eps                                        float64
		tied, bias, mlpBias, scale, scaleWithLayer bool
	}
	of := func(a *Arch) blocks {
		return blocks{a.Norm, a.MLP, a.Residual, a.Position, a.Activation, a.NormEps, a.Tied, a.AttnBias, a.MLPBias, a.ScaleScores, a.ScaleByLayer}
	}
	for _, c := range []struct {
		a    *Arch
		want blocks
	}{
		{llama, blocks{RMSNorm, Gated, Sequential, PositionRope, activation.SiLU, 1e-6, false, false, false, true, false}},
		{neox, blocks{LayerNorm, Plain, Parallel, PositionRope, activation.GELU, 1e-5, false, true, true, true, false}},
		{gpt2, blocks{LayerNorm, Plain, Sequential, PositionLearned, activation.GELUTanh, 1e-5, true, true, true, true, false}},
		{
			resolve(t, `{"model_type": "gpt_neox", "use_parallel_residual": false, "attention_bias": false, "hidden_act": "gelu_fast", "tie_word_embeddings": true}`),
			blocks{LayerNorm, Plain, Sequential, PositionRope, activation.GELUTanh, 1e-5, true, false, true, true, false},
		},
		{
			resolve(t, `{"model_type": "gpt2", "activation_function": "relu", "scale_attn_weights": false, "scale_attn_by_inverse_layer_idx": true, "layer_norm_epsilon": 0.5}`),
			blocks{LayerNorm, Plain, Sequential, PositionLearned, activation.ReLU, 0.5, true, true, true, false, true},
		},
	} {
		if got := of(c.a); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.a.Family.Name, got, c.want)
		}
	}
}

// TestResolveRope reads the spellings of transformers before and from 5.0.
func TestResolveRope(t *testing.T) {
	linear := RopeScaling{
		Type: "linear", Factor: 2, OriginalContext: 2048, LowFreqFactor: 1, HighFreqFactor: 4, BetaFast: 32, BetaSlow: 1, Truncate: true,
	}
	llama3 := RopeScaling{
		Type: "llama3", Factor: 8, OriginalContext: 512, LowFreqFactor: 1, HighFreqFactor: 2, BetaFast: 32, BetaSlow: 1, Truncate: true,
	}
	plain := linear
	plain.Type, plain.Factor = "default", 1
	for config, want := range map[string]Rope{
		`{"model_type": "llama"}`: {Dim: 128, Theta: 10000},
		`{"model_type": "llama", "rope_theta": 5e5, "rope_scaling": null}`:                                         {Dim: 128, Theta: 5e5},
		`{"model_type": "llama", "rope_theta": 7, "rope_parameters": null}`:                                        {Dim: 128, Theta: 7},
		`{"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2.0}}`:                               {Dim: 128, Theta: 10000, RopeScaling: linear},
		`{"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "rope_theta": 9}`: {Dim: 128, Theta: 5e5, RopeScaling: plain},
		`{"model_type": "llama", "rope_parameters": {"rope_type": "linear", "factor": 2}}`:                         {Dim: 128, Theta: 10000, RopeScaling: linear},
		`{"model_type": "llama", "rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 8, "high_freq_factor": 2,
			"original_max_position_embeddings": 512}}`: {Dim: 128, Theta: 10000, RopeScaling: llama3},
		`{"model_type": "gpt_neox"}`: {Dim: 24, Theta: 10000},
		`{"model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 500}`:                                        {Dim: 48, Theta: 500},
		`{"model_type": "gpt_neox", "rotary_pct": 0.5, "rope_parameters": {"partial_rotary_factor": 1}}`:               {Dim: 96, Theta: 10000, RopeScaling: plain},
		`{"model_type": "gpt_neox", "num_attention_heads": 4, "hidden_size": 40, "rotary_pct": 0.25, "rope_theta": 2}`: {Dim: 2, Theta: 2},
	} {
		if got := resolve(t, config).Rope; !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", config, got, want)
		}
	}
}

func TestResolveNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ config, family, want string }{
		{`{"model_type": "llama"`, "", "config.json is not JSON: unexpected end"},
		{`null`, "llama", "config.json holds no JSON object"},
		{`[]`, "llama", "config.json holds no JSON object"},
		{`{"model_type": "llama"} x`, "", "config.json is not JSON: invalid character 'x' after"},
		{`{}`, "", "config.json has no model_type"},
		{`{"model_type": 7}`, "", "config.json has no model_type"},
		{`{"model_type": "elmo"}`, "", `model_type "elmo" is not a family this toolkit knows; nearest: olmo`},
		{`{"model_type": "qwen4"}`, "", `knows; nearest: qwen2, qwen3`},
		{`{"model_type": "mamba"}`, "", `knows`},
		{`{"model_type": "llama"}`, "lama", `family is "lama", which is none of the `},
		{`{}`, "gptneox", `known; nearest: gpt_neox`},
		{`{"model_type": "llama", "vocab_size": "32k"}`, "", `config.json: vocab_size is "32k", want a number`},
		{`{"model_type": "llama", "vocab_size": "heads"}`, "", `config.json: vocab_size is "heads", want a number`},
		{`{"model_type": "llama", "vocab_size": [8]}`, "", `config.json: vocab_size is [8], want a number`},
		{`{"model_type": "llama", "vocab_size": true}`, "", `config.json: vocab_size is true, want a number`},
		{`{"model_type": "llama", "num_hidden_layers": 2.5}`, "", "config.json: num_hidden_layers is 2.5, want a whole number from 1 to 2^30"},
		{`{"model_type": "llama", "num_hidden_layers": 0}`, "", "config.json: num_hidden_layers is 0, want a whole number"},
		{`{"model_type": "llama", "hidden_size": -4096}`, "", "config.json: hidden_size is -4096, want a whole number"},
		{`{"model_type": "llama", "hidden_size": 1e300}`, "", "config.json: hidden_size is 1e+300, want a whole number"},
		{`{"model_type": "gpt2", "n_embd": 8}`, "", "config.json: head_dim (by default dim / heads) is 0, want a whole number"},
		{`{"model_type": "llama", "num_attention_heads": 8, "num_key_value_heads": 3}`, "", "3 kv heads do not divide 8 heads"},
		{`{"model_type": "llama", "num_attention_heads": 8, "num_key_value_heads": 16}`, "", "16 kv heads do not divide 8 heads"},
		{`{"model_type": "llama", "rms_norm_eps": 0}`, "", "norm epsilon is 0, want a positive number"},
		{`{"model_type": "llama", "attention_bias": "no"}`, "", `config.json: attention_bias is "no", want true or false`},
		{`{"model_type": "llama", "hidden_act": "mish"}`, "", `config.json: hidden_act is "mish", want one of gelu, `},
		{`{"model_type": "gpt2", "add_cross_attention": true}`, "", "add_cross_attention is true, want one of [false]: a GPT-2 decoder with cross-attention"},
		{`{"model_type": "llama", "rope_theta": 0}`, "", "rope_theta is 0, want more than 1"},
		{`{"model_type": "llama", "rope_scaling": 2}`, "", "config.json: rope_scaling is 2, want an object"},
		{`{"model_type": "llama", "rope_scaling": {"type": "mrope"}}`, "", `rope_scaling has rope_type "mrope", want one of [default linear`},
		{`{"model_type": "llama", "rope_scaling": {"type": "linear", "factor": "2"}}`, "", `rope_scaling has factor "2", want a number`},
		{`{"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 0.5}}`, "", "rope factor is 0.5, want 1 or more"},
		{`{"model_type": "llama", "rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}}`, "", "want 0 < low < high"},
		{`{"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 8, "beta_fast": 1, "beta_slow": 2}}`, "", "want 0 < slow <= fast"},
		{`{"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": 0}}`, "", "original_max_position_embeddings is 0"},
		{`{"model_type": "gpt_neox", "rotary_pct": 2}`, "", "192 rotary dims, which go in pairs, do not fit a head dim of 96"},
		{`{"model_type": "gpt_neox", "rotary_pct": -1}`, "", "-96 rotary dims"},
		{`{"model_type": "gpt_neox", "rotary_pct": 1e30}`, "", "rotary dims"},
	} {
		_, err := Resolve([]byte(c.config), c.family)
		wantError(t, err, c.want)
	}
}

// TestResolveUnknownKeys wants keys named that nothing explains, sorted, and no others.
func TestResolveUnknownKeys(t *testing.T) {
	a := resolve(t, `{"model_type": "llama", "zeta": 1, "alpha": {"vocab_size": 1}, "dtype": "float32", "use_cache": true, "pretraining_tp": 1,
		"num_key_value_heads": 8, "rope_parameters": {"rope_type": "default"}, "architectures": ["LlamaForCausalLM"]}`)
	if want := []string{"alpha", "zeta"}; !slices.Equal(a.Unknown, want) {
		t.Errorf("unknown keys %q, want %q", a.Unknown, want)
	}
	if a = resolve(t, `{"model_type": "gpt2", "add_cross_attention": false, "n_ctx": 8}`); a.Unknown != nil {
		t.Errorf("unknown keys %q, want none", a.Unknown)
	}
}

// TestResolveByName reads a config.json as another family than its own.
func TestResolveByName(t *testing.T) {
	a, err := Resolve([]byte(`{"model_type": "yi", "hidden_size": 64}`), "llama")
	if err != nil || a.Family.Name != "llama" || a.Dim != 64 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestArchArithmetic(t *testing.T) {
	a := resolve(t, `{"model_type": "llama", "num_attention_heads": 12, "hidden_size": 48, "num_hidden_layers": 3, "num_key_value_heads": 6}`)
	if a.KVDim() != 24 || a.KVBytesPerToken(2) != 2*3*24*2 {
		t.Errorf("KV dim %d, %d bytes a token", a.KVDim(), a.KVBytesPerToken(2))
	}
	if got, want := a.LegalGroups(), []int{1, 2, 3, 6}; !slices.Equal(got, want) {
		t.Errorf("legal groups %v, want %v", got, want)
	}
	b := a.WithKVHeads(3)
	if b.KVHeads != 3 || a.KVHeads != 6 {
		t.Errorf("%d KV heads from %d", b.KVHeads, a.KVHeads)
	}
	if a.MaxPositions() != 0 || resolve(t, `{"model_type": "gpt2"}`).MaxPositions() != 1024 {
		t.Error("only learned positions end")
	}
	dynamic := resolve(t, `{"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2}}`)
	if dynamic.MaxPositions() != 2048 {
		t.Error("dynamic scaling is exact up to the context only")
	}
}

func TestLayoutOfGroups(t *testing.T) {
	neox := resolve(t, `{"model_type": "gpt_neox"}`)
	if got := neox.Layout(); got != FusedPerHead {
		t.Errorf("gpt_neox lies %s", got)
	}
	if got := neox.WithKVHeads(8).Layout(); got != FusedBlocks {
		t.Errorf("grouped gpt_neox lies %s", got)
	}
	if got := resolve(t, `{"model_type": "llama", "num_key_value_heads": 8}`).Layout(); got != Separate {
		t.Errorf("grouped llama lies %s", got)
	}
}

// FuzzResolve wants any config.json either refused or resolved to an architecture whose arithmetic holds.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{
		`{"model_type": "llama"}`,
		`{"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1073741824}`,
		`{"model_type": "gpt_neox", "rotary_pct": 1e300, "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1, "mscale_all_dim": 0.7}}`,
		`{"model_type": "llama", "rope_parameters": {"rope_type": "llama3", "factor": 8, "rope_theta": 2}, "head_dim": 3, "num_key_value_heads": null}`,
		`{"model_type": "llama", "hidden_size": "4 * dim", "rope_scaling": []}`,
	} {
		f.Add([]byte(seed))
	}
	if _, err := Families(); err != nil { // read once
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		var a *Arch
		var err error
		if n := alloc.Bytes(func() { a, err = Resolve(config, "") }); n > 1<<20+100*len(config) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(config))
		}
		if err != nil {
			return
		}
		for _, n := range sizes(a) {
			if n < 1 || n > 1<<30 {
				t.Fatalf("%s: sizes %v", config, sizes(a))
			}
		}
		if a.Heads%a.KVHeads != 0 || a.KVDim() < 1 {
			t.Fatalf("%s: %d heads, %d KV heads of %d", config, a.Heads, a.KVHeads, a.HeadDim)
		}
		if a.Position == PositionRope && a.Rope.Dim < 1<<16 {
			checkFrequencies(t, a.Rope)
		}
		if a.Bind(map[string][]int{"model.norm.weight": {a.Dim}}) == nil {
			t.Fatalf("%s: one tensor is a whole model", config)
		}
	})
}
