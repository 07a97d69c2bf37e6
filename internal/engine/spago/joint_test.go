package spago

import (
	"math"
	"testing"
)

// One product for several linear layers gives the loss and the gradients of separate products, for layers with and without
// biases, norms of queries and keys, clipping, and rotation.
func TestJointWeights(t *testing.T) {
	const shape = `"vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
		"intermediate_size": 144, "max_position_embeddings": 96`
	for name, config := range map[string]string{
		"llama": llamaConfig, "gpt2": gptConfig, "qwen2": `{"model_type": "qwen2", ` + shape + `}`,
		"qwen3":  `{"model_type": "qwen3", "head_dim": 16, ` + shape + `}`,
		"olmo2":  `{"model_type": "olmo2", ` + shape + `}`,
		"olmo":   `{"model_type": "olmo", "clip_qkv": 0.5, ` + shape + `}`,
		"phi":    `{"model_type": "phi", ` + shape + `}`,
		"neox":   `{"model_type": "gpt_neox", "vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 144, "max_position_embeddings": 96}`,
		"granite": `{"model_type": "granite", "attention_multiplier": 0.2, "embedding_multiplier": 2, "residual_multiplier": 0.7, "logits_scaling": 3, ` + shape + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			separate, joint := newTrialOf(t, config, false), newTrialOf(t, config, true)
			joined := 0
			for _, p := range joint.params.List {
				if valueOf(p).joint != nil {
					joined++
				}
			}
			if joined < 6 {
				t.Fatalf("%d joint weights, want at least q, k and v of two layers", joined)
			}
			for range 2 { // the second step's gradients overwrite the first's
				loss, want := separate.step(t)
				other, got := joint.step(t)
				if math.Abs(other-loss) > 1e-5*loss {
					t.Errorf("the loss is %v, want %v", other, loss)
				}
				for i, w := range want {
					for j := range w {
						if off := math.Abs(float64(got[i][j] - w[j])); off > 1e-5 {
							t.Fatalf("the gradient of %s is off by %v", joint.params.Names[i], off)
						}
					}
				}
			}
		})
	}
}
