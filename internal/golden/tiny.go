package golden

import (
	"math"
	"math/rand/v2"
	"testing"

	"gqa/configs"
)

// Tiny are configs of small models with each kind of layer, with two KV heads for four heads where groups of heads have some.
var Tiny = map[string]string{
	"llama": `{"model_type": "llama", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
		"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 16}`,
	"llama with biases, tied": `{"model_type": "llama", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 16,
		"attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true}`,
	"gpt_neox": `{"model_type": "gpt_neox", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 16,
		"rotary_pct": 0.5}`,
	"gpt_neox sequential": `{"model_type": "gpt_neox", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 48, "max_position_embeddings": 16,
		"use_parallel_residual": false}`,
	"deepseek_v3": `{"model_type": "deepseek_v3", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
		"num_key_value_heads": 4, "intermediate_size": 48, "max_position_embeddings": 16, "first_k_dense_replace": 2, "kv_lora_rank": 12,
		"q_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 7, "attention_bias": true}`,
	"latent": `{"model_type": "gpt_neox_mla", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
		"intermediate_size": 48, "max_position_embeddings": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 7,
		"mla": {"softmax_scale": 0.3, "inv_freq": [1, 0.3]}}`,
	"gpt2": `{"model_type": "gpt2", "vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "num_key_value_heads": 2,
		"n_inner": 48, "n_positions": 16}`,
}

// TinyModel returns a model of one of those configs, or another one, with random weights keyed by the forward pass's
// names.
func TinyModel(t testing.TB, config string) (*configs.Arch, map[string][]float32) {
	t.Helper()
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	params, err := arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	all := map[string][]float32{}
	for _, p := range params {
		w := make([]float32, p.Size())
		for i := range w {
			w[i] = float32(r.NormFloat64())
			if len(p.Shape) > 1 {
				w[i] /= float32(math.Sqrt(float64(p.Shape[1])) / 1.5)
			} else {
				w[i] = 0.3*w[i] + 0.5
			}
		}
		all[p.Name] = w
	}
	return arch, all
}

// Windows returns count random windows of n IDs.
func Windows(seed uint64, count, n, vocab int) [][]int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	windows := make([][]int32, count)
	for i := range windows {
		windows[i] = make([]int32, n)
		for j := range windows[i] {
			windows[i][j] = int32(r.IntN(vocab))
		}
	}
	return windows
}
