package eval

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"

	"gqa/configs"
	"gqa/internal/device"
)

func randomIDs(n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = r.Int32N(int32(vocab))
	}
	return ids
}

// RandomModel returns a model of a shape with random weights in the formats of f, for timing only: a Llama or, if the shape has latent
// attention and groups is 0, a dense DeepSeek-V3. A feed-forward block without a gate becomes one with a gate and the same number of
// weights.
func RandomModel(ctx context.Context, s Shape, groups int, o ModelOptions) (*Model, error) {
	f, err := o.formats()
	if err != nil {
		return nil, err
	}
	a, err := s.arch(groups)
	if err != nil {
		return nil, err
	}
	params, err := a.Params()
	if err != nil {
		return nil, err
	}
	bytes := 0.0
	for _, p := range params {
		bytes += float64(f.Weights.Size()) * float64(p.Size())
	}
	dev, err := o.open()
	if err != nil {
		return nil, err
	}
	if err := checkMemoryOf(dev, s.Name+" in "+formatNames[f.Weights], bytes); err != nil {
		device.Close(dev)
		return nil, err
	}
	return newModelOn(dev, o, "", a, func(receive func(p configs.Param, values []float32) error) error {
		for i, p := range params {
			if err := cmp.Or(ctx.Err(), receive(p, randomWeights(p.Size(), uint64(i)))); err != nil {
				return err
			}
		}
		return nil
	})
}

func randomWeights(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 3))
	w := make([]float32, n)
	for i := range w {
		w[i] = (r.Float32() - 0.5) / 16
	}
	return w
}

func (s Shape) arch(groups int) (*configs.Arch, error) {
	ffn := s.FFN
	if !s.Gated {
		ffn = ffn * 2 / 3
	}
	if groups == 0 && s.KVRank > 0 {
		return s.latentArch(ffn)
	}
	if groups == 0 {
		groups = s.KVHeads
	}
	config := fmt.Sprintf(`{"model_type": "llama", "vocab_size": %d, "hidden_size": %d, "num_hidden_layers": %d, "tie_word_embeddings": %t,
		"num_attention_heads": %d, "num_key_value_heads": %d, "head_dim": %d, "intermediate_size": %d, "max_position_embeddings": %d}`,
		s.Vocab, s.Dim, s.Layers, s.Tied, s.Heads, groups, s.HeadDim, ffn, s.Context)
	return configs.Resolve([]byte(config), "")
}

// latentArch is arch for latent attention. Keys without positions, and values, are as wide as the shape's heads.
func (s Shape) latentArch(ffn int) (*configs.Arch, error) {
	config := fmt.Sprintf(`{"model_type": "deepseek_v3", "vocab_size": %d, "hidden_size": %d, "num_hidden_layers": %d, "first_k_dense_replace": %d,
		"tie_word_embeddings": %t, "num_attention_heads": %d, "num_key_value_heads": %d, "intermediate_size": %d, "max_position_embeddings": %d,
		"kv_lora_rank": %d, "qk_rope_head_dim": %d, "qk_nope_head_dim": %d, "v_head_dim": %d, "q_lora_rank": null}`,
		s.Vocab, s.Dim, s.Layers, s.Layers, s.Tied, s.Heads, s.Heads, ffn, s.Context, s.KVRank, s.RopeDim, s.HeadDim, s.HeadDim)
	return configs.Resolve([]byte(config), "")
}
