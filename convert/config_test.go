package convert

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/golden"
	"gqa/internal/weights"
)

// TestConfigKeepsSpelling of numbers and text, unknown keys and all; keys are sorted, as transformers writes them.
func TestConfigKeepsSpelling(t *testing.T) {
	const before = `{"model_type":"llama","vocab_size":6,"hidden_size":16,"intermediate_size":5,"num_hidden_layers":1,"num_attention_heads":8,
		"rms_norm_eps":1e-06,"rope_theta":10000.0,"big":12345678901234567890,"small":1E-400,"nested":{"b":1.50,"a":[1,2.0,null]},
		"text":"<|im_start|> & é \" \\","num_key_value_heads":null,"torch_dtype":"bfloat16"}`
	const after = `{
  "big": 12345678901234567890,
  "hidden_size": 16,
  "intermediate_size": 5,
  "model_type": "llama",
  "nested": {
    "a": [
      1,
      2.0,
      null
    ],
    "b": 1.50
  },
  "num_attention_heads": 8,
  "num_hidden_layers": 1,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-06,
  "rope_theta": 10000.0,
  "small": 1E-400,
  "text": "<|im_start|> & é \" \\",
  "torch_dtype": "bfloat16",
  "vocab_size": 6
}
`
	got, err := weights.RewriteConfig([]byte(before), func(c map[string]any) { c["num_key_value_heads"] = 2 })
	if err != nil || string(got) != after {
		t.Errorf("%s (%v), want\n%s", got, err, after)
	}
}

func TestConfigOfTargets(t *testing.T) {
	const small = `{
  "hidden_size": 8,
  "intermediate_size": 4,
  "model_type": "llama",
  "num_attention_heads": 4,
  "num_hidden_layers": 1,
  "torch_dtype": "float32",
  "vocab_size": 2
}
`
	const grouped = `{
  "hidden_size": 8,
  "intermediate_size": 4,
  "model_type": "llama",
  "num_attention_heads": 4,
  "num_hidden_layers": 1,
  "num_key_value_heads": 2,
  "torch_dtype": "float32",
  "vocab_size": 2
}
`
	dir := model{config: small}.write(t)
	for want, o := range map[string]Options{
		small:   {Goal: Groups(2), Target: Expanded},
		grouped: {Goal: Groups(2)},
	} {
		if got := readFile(t, filepath.Join(convertTo(t, dir, o).Dir, "config.json")); got != want {
			t.Errorf("%+v: %s, want %s", o, got, want)
		}
	}
}

// TestConfigDType sets the key that is in use.
func TestConfigDType(t *testing.T) {
	for _, c := range []struct{ key, before, want string }{
		{"torch_dtype", "float32", "bfloat16"},
		{"dtype", "float32", "bfloat16"},
		{"torch_dtype", "", "bfloat16"},
	} {
		config := map[string]any{}
		if c.before != "" {
			config[c.key] = c.before
		}
		weights.SetDType(config, checkpoints.BF16)
		if len(config) != 1 || config[c.key] != c.want {
			t.Errorf("%+v: %v", c, config)
		}
	}
}

// oldFalcon is a config.json as the first Falcons had it.
func oldFalcon(modelType, keys string) string {
	return `{"model_type": "` + modelType + `", "vocab_size": 6, "hidden_size": 16, "n_head": 8, "n_layer": 2, "architectures": ["RWForCausalLM"],
		"auto_map": {"AutoConfig": "configuration_RW.RWConfig"}, ` + keys + `}`
}

// TestGroupedConfig: a result's config.json describes the layout of its KV heads, so that it opens as the planned
// architecture.
func TestGroupedConfig(t *testing.T) {
	perHead := with(falconConfig, "multi_query", "false")
	for _, c := range []struct {
		config string
		groups int
		want   map[string]any
		class  string
	}{
		{perHead, 2, map[string]any{"num_kv_heads": 2., "new_decoder_architecture": true, "num_ln_in_parallel_attn": 1.}, "FalconForCausalLM"},
		{perHead, 8, map[string]any{"num_kv_heads": 8., "new_decoder_architecture": nil}, "FalconForCausalLM"},
		{with(perHead, "parallel_attn", "false"), 2, map[string]any{"num_kv_heads": 2., "multi_query": false}, ""},
		{with(perHead, "parallel_attn", "false"), 1, map[string]any{"num_kv_heads": 1., "multi_query": true}, "FalconForCausalLM"},
		{with(perHead, "new_decoder_architecture", "true"), 4, map[string]any{"num_kv_heads": 4., "num_ln_in_parallel_attn": nil}, "FalconForCausalLM"},
		// spelt as before the class
		{oldFalcon("RefinedWeb", `"n_head_kv": 8`), 2, map[string]any{
			"num_kv_heads": 2., "new_decoder_architecture": true, "model_type": "falcon", "num_attention_heads": 8., "num_hidden_layers": 2.,
			"n_head": nil, "n_layer": nil, "n_head_kv": nil, "auto_map": nil,
		}, "FalconForCausalLM"},
		{oldFalcon("RefinedWebModel", `"multi_query": false, "parallel_attn": true`), 4, map[string]any{
			"num_kv_heads": 4., "new_decoder_architecture": true, "num_ln_in_parallel_attn": 1., "model_type": "falcon",
		}, "FalconForCausalLM"},
		{oldFalcon("RefinedWebModel", `"multi_query": false, "parallel_attn": false`), 1, map[string]any{
			"num_kv_heads": 1., "multi_query": true, "model_type": "falcon", "num_hidden_layers": 2., "n_layer": nil,
		}, "FalconForCausalLM"},
	} {
		p := newPlan(t, model{config: c.config}.write(t), Options{Goal: Groups(c.groups)})
		out := filepath.Join(t.TempDir(), "out")
		if _, err := p.Run(t.Context(), out, RunOptions{}); err != nil {
			t.Fatal(err)
		}
		got := golden.Open(t, out)
		var keys map[string]any
		if err := json.Unmarshal(got.Config, &keys); err != nil {
			t.Fatal(err)
		}
		for key, want := range c.want {
			if keys[key] != want {
				t.Errorf("%s to %d groups: %s is %v, want %v", c.config, c.groups, key, keys[key], want)
			}
		}
		if got.Arch.KVHeads != c.groups || got.Arch.Layout() != p.Arch.Layout() {
			t.Errorf("%s to %d groups: opened with %d, %s", c.config, c.groups, got.Arch.KVHeads, got.Arch.Layout())
		}
		if class := p.Arch.Family.Grouping(c.groups).Class; class != c.class {
			t.Errorf("%s to %d groups loads in %q, want %q", c.config, c.groups, class, c.class)
		}
	}
}
