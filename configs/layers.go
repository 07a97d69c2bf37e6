package configs

import (
	"fmt"
	"math"
	"slices"
)

// LayersKey is the config.json key for a list of KV heads, one for each layer of the decoder, used if they differ. It
// is specific to this toolkit and stands beside the family's key, which then holds the maximum. No class of
// transformers reads it.
const LayersKey = "num_key_value_heads_per_layer"

// LayerKV returns the number of KV heads of a decoder layer.
func (a *Arch) LayerKV(layer int) int {
	if a.LayerKVHeads == nil || layer < 0 {
		return a.KVHeads
	}
	return a.LayerKVHeads[layer]
}

// WithLayerKVHeads returns the same architecture with groups[i] KV heads in layer i.
func (a *Arch) WithLayerKVHeads(groups []int) *Arch {
	b := a.WithKVHeads(slices.Max(groups))
	if slices.Min(groups) < b.KVHeads {
		b.LayerKVHeads = slices.Clone(groups)
	}
	return b
}

// At returns the architecture from the point of view of one layer.
func (a *Arch) At(layer int) *Arch {
	if layer < 0 || a.LayerKVHeads == nil && a.LatentLayers == nil {
		return a
	}
	b := *a
	if b.KVHeads = a.LayerKV(layer); a.LatentLayers != nil {
		b.Latent = a.LatentLayers[layer]
		b.HeadDim, b.Rope.Dim = b.Latent.HeadDim(), b.Latent.RopeDim
	}
	return &b
}

// layerKVHeads reads the list in config.json; nil if there is none.
func (a *Arch) layerKVHeads(raw map[string]any) ([]int, error) {
	v, ok := lookup(raw, LayersKey)
	if !ok || a.IsLatent() {
		return nil, nil
	}
	list, _ := v.([]any)
	if len(list) != a.Layers || a.EncoderLayers > 0 {
		return nil, fmt.Errorf("config.json: %s is %s, want a list of %d numbers, one for each layer of a decoder", LayersKey, literal(v), a.Layers)
	}
	groups := make([]int, len(list))
	for i, v := range list {
		n, _ := v.(float64)
		if n < 1 || n > float64(a.Heads) || n != math.Trunc(n) || a.Heads%int(n) != 0 {
			return nil, fmt.Errorf("config.json: %s has %s for layer %d, want a divisor of the %d heads", LayersKey, literal(v), i, a.Heads)
		}
		groups[i] = int(n)
	}
	return groups, nil
}

// LayerScoreScale returns the factor for the scores of a layer's attention.
func (a *Arch) LayerScoreScale(layer int) float64 {
	scale := 1.0
	switch {
	case a.ScoreScale != 0:
		scale = a.ScoreScale
	case a.ScaleScores:
		scale /= math.Sqrt(float64(a.HeadDim))
	}
	if a.ScaleByLayer {
		scale /= float64(layer + 1)
	}
	if a.ScoreMScale {
		scale *= a.Rope.ScoreFactor()
	}
	return scale
}
