package convert

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/ops"
)

const gptjConfig = `{"model_type": "gptj", "vocab_size": 6, "n_embd": 32, "n_layer": 2, "n_head": 8, "n_positions": 32, "rotary_dim": 2,
	"n_inner": 40, "activation_function": "relu", "bos_token_id": 3}`

const optConfig = `{"model_type": "opt", "vocab_size": 6, "hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 2,
	"num_attention_heads": 8, "ffn_dim": 5, "max_position_embeddings": 4, "eos_token_id": 2}`

// TestNeighbours: a neighbour's tensors compute the same function as the family's own, within the precision of every
// float dtype.
func TestNeighbours(t *testing.T) {
	tokens := ops.NewBatch([]int32{1, 5, 2, 0}, []int32{4, 4, 1, 3})
	for name, c := range map[string]struct {
		config, family string
		tolerance      float64
		dtype          checkpoints.DType
		groups         []int
	}{
		"gpt_neox":             {neoxConfig, "phi", 1e-5, checkpoints.F32, []int{1, 4}},
		"gpt_neox of no bias":  {with(neoxConfig, "attention_bias", "false"), "phi", 1e-5, checkpoints.F32, []int{1, 4}},
		"gpt_neox of a half":   {with(neoxConfig, "rotary_pct", "0.5"), "phi", 1e-5, checkpoints.F32, []int{1, 4}},
		"gpt_neox tied, tanh":  {with(with(neoxConfig, "tie_word_embeddings", "true"), "hidden_act", `"gelu_new"`), "phi", 1e-5, checkpoints.F32, []int{1, 4}},
		"gptj":                 {gptjConfig, "phi", 1e-5, checkpoints.F32, []int{1, 4}},
		"gptj of whole heads":  {strings.Replace(gptjConfig, `"rotary_dim": 2`, `"rotary_dim": 4`, 1), "phi", 1e-5, checkpoints.F32, []int{1, 4}},
		"gpt_neox in 16 bits":  {neoxConfig, "phi", 0.05, checkpoints.BF16, []int{1, 4}},
		"gpt_neox, sequential": {with(neoxConfig, "use_parallel_residual", "false"), "gpt_neox", 0, checkpoints.F32, []int{1, 4}},
		"gpt_neox that pads":   {with(neoxConfig, "pad_token_id", "1"), "phi", 1e-5, checkpoints.F32, []int{4}},
		"opt":                  {optConfig, "mpt", 1e-5, checkpoints.F32, []int{1, 4}},
		"opt in 16 bits":       {optConfig, "mpt", 0.05, checkpoints.BF16, []int{4}},
		"opt, bare norms":      {with(with(optConfig, "layer_norm_elementwise_affine", "false"), "enable_bias", "false"), "mpt", 1e-5, checkpoints.F32, []int{4}},
		"opt, untied, silu":    {with(with(optConfig, "tie_word_embeddings", "false"), "activation_function", `"silu"`), "mpt", 1e-5, checkpoints.F32, []int{1, 2}},
		"opt of tanh":          {with(optConfig, "activation_function", `"gelu_new"`), "opt", 0, checkpoints.F32, []int{4}},
		"opt, no final norm":   {with(optConfig, "_remove_final_layer_norm", "true"), "opt", 0, checkpoints.F32, []int{4}},
		"opt, norms behind":    {with(optConfig, "do_layer_norm_before", "false"), "opt", 0, checkpoints.F32, []int{4}},
		"gpt2 of one":          {gpt2Config, "gpt_bigcode", 1e-5, checkpoints.F32, []int{1}},
		"gpt2 of several":      {gpt2Config, "gpt2", 0, checkpoints.F32, []int{2, 4}},
		"gpt2, scaled":         {with(gpt2Config, "scale_attn_by_inverse_layer_idx", "true"), "gpt2", 0, checkpoints.F32, []int{1}},
		"gpt2, own scores":     {with(gpt2Config, "scale_attn_weights", "false"), "gpt_bigcode", 1e-5, checkpoints.F32, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := model{config: c.config}.write(t)
			for _, groups := range c.groups {
				own := convertTo(t, dir, Options{Goal: Groups(groups), Target: Own})
				native := convertTo(t, dir, Options{Goal: Groups(groups), DType: c.dtype})
				if native.Arch.Family.Name != c.family || native.Arch.KVHeads != groups {
					t.Fatalf("%s of %d KV heads, want %s of %d", native.Arch.Family.Name, native.Arch.KVHeads, c.family, groups)
				}
				a, errA := own.All(t.Context())
				b, errB := native.All(t.Context())
				if errA != nil || errB != nil {
					t.Fatal(errA, errB)
				}
				want := slices.Clone(infer.New(cpu.New(), own.Arch, a).Logits(tokens).F32())
				got := infer.New(cpu.New(), native.Arch, b).Logits(tokens).F32()
				for i := range got {
					if d := float64(got[i] - want[i]); d > c.tolerance || d < -c.tolerance || d != d {
						t.Fatalf("%d groups: logit %d is %v, want %v", groups, i, got[i], want[i])
					}
				}
			}
		})
	}
}

// TestNeighbourConfig checks the keys that the class reads, in the forms before and after release 5.0, and that the
// tokens' ids are kept.
func TestNeighbourConfig(t *testing.T) {
	out := convertTo(t, model{config: with(gptjConfig, "auto_map", `{"AutoConfig": "x"}`)}.write(t), Options{Goal: Groups(2)})
	var got map[string]any
	if err := json.Unmarshal(out.Config, &got); err != nil {
		t.Fatal(err)
	}
	rope, _ := got["rope_parameters"].(map[string]any)
	for key, want := range map[string]any{
		"model_type": "phi", "num_key_value_heads": 2.0, "hidden_size": 32.0, "hidden_act": "relu", "bos_token_id": 3.0,
		"partial_rotary_factor": 0.5, "rope_theta": 10000.0, "auto_map": nil, "n_embd": nil, "dtype": nil,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if rope["rope_type"] != "default" || rope["partial_rotary_factor"] != 0.5 || !strings.Contains(string(out.Config), `"PhiForCausalLM"`) {
		t.Errorf("config.json is %s", out.Config)
	}
}
