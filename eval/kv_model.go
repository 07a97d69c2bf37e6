package eval

import (
	"fmt"
	"path/filepath"
	"slices"

	"gqa/configs"
	"gqa/internal/weights"
)

// ShapeOfModel returns the shape of a checkpoint, of which it reads no weights. Shape.Window is set only if every layer has it. The head
// dim of a model with latent attention is that of its values, and the rank the mean of its layers'. What attention can become latent is also known.
func ShapeOfModel(path string) (Shape, error) {
	src, err := weights.Open(path, weights.Options{})
	if err != nil {
		return Shape{}, fmt.Errorf("model: %w", err)
	}
	defer src.Close()
	a := src.Arch
	switch {
	case !a.Causal:
		return Shape{}, fmt.Errorf("%s: family %s %w: there is no KV cache", path, a.Family.Name, ErrDecode)
	case a.LayerKVHeads != nil:
		return Shape{}, fmt.Errorf("%s: its layers have different numbers of KV heads, %v: their cache takes %d bytes per token in f32",
			path, a.LayerKVHeads, a.KVBytesPerToken(4))
	case a.IsLatent() && a.KVBytesPerToken(1)%int64(a.Layers) != 0:
		return Shape{}, fmt.Errorf("%s: its layers have latents of different sizes: their cache takes %d bytes per token in f32", path, a.KVBytesPerToken(4))
	}
	s := Shape{
		Name: filepath.Base(src.Dir), Layers: a.Layers, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.ValueDim(), Dim: a.Dim, FFN: a.FFN,
		Vocab: a.Vocab, Context: a.Context, Positions: a.MaxPositions(), Gated: a.MLP == configs.Gated, Tied: a.Tied, Cross: a.EncoderLayers > 0, Window: a.LayerWindow(0),
	}
	if a.IsLatent() {
		s.KVRank, s.RopeDim = int(a.KVBytesPerToken(1))/a.Layers-a.Latent.RopeDim, a.Latent.RopeDim
		s.uneven = slices.ContainsFunc(a.LatentLayers, func(l configs.Latent) bool { return l.CacheDim() != a.Latent.CacheDim() })
	}
	s.setLatents(a)
	for layer := range a.Layers {
		if a.LayerWindow(layer) != s.Window {
			s.Window = 0
		}
	}
	return s, s.check()
}
