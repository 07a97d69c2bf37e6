package configs

import (
	"fmt"
	"math"
	"slices"
)

// LayersKey is the config.json key of a list of KV heads, one for each layer of the decoder, where they differ: this toolkit's
// own, beside the family's, which then holds the most. No class of transformers' reads it.
const LayersKey = "num_key_value_heads_per_layer"

// LayerKV is how many KV heads a layer of the decoder has.
func (a *Arch) LayerKV(layer int) int {
	if a.LayerKVHeads == nil || layer < 0 {
		return a.KVHeads
	}
	return a.LayerKVHeads[layer]
}

// WithLayerKVHeads is the same architecture with as many KV heads in each layer as groups says.
func (a *Arch) WithLayerKVHeads(groups []int) *Arch {
	b := a.WithKVHeads(slices.Max(groups))
	if slices.Min(groups) < b.KVHeads {
		b.LayerKVHeads = slices.Clone(groups)
	}
	return b
}

// At is the architecture as one layer has it.
func (a *Arch) At(layer int) *Arch {
	if a.LayerKVHeads == nil || layer < 0 {
		return a
	}
	b := *a
	b.KVHeads = a.LayerKV(layer)
	return &b
}

// layerKVHeads reads config.json's list, nil where there is none.
func (a *Arch) layerKVHeads(raw map[string]any) ([]int, error) {
	v, ok := lookup(raw, LayersKey)
	if !ok {
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
