package configs

import (
	"fmt"
	"slices"
)

// Layer types of transformers' configs that are supported in a decoder.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// LayerWindow returns the number of tokens visible to a token in that layer, including itself (Child et al., arXiv
// 1904.10509; Mistral 7B, arXiv 2310.06825), or 0 if it sees all tokens before it.
func (a *Arch) LayerWindow(layer int) int {
	sliding := layer >= a.windowFrom
	if a.layerTypes != nil {
		sliding = a.layerTypes[layer%len(a.layerTypes)] == slidingAttention
	}
	if sliding {
		return a.Window
	}
	return 0
}

// pattern is a family's default for the types of layers, repeated as needed.
type pattern []any

// layerTypesOf returns the type of every layer, or a pattern of types.
func (r *resolver) layerTypesOf(value any) ([]string, error) {
	list, repeats := value.(pattern)
	given, ok := value.([]any)
	switch layers := int(r.numbers["layers"]); {
	case repeats:
		given = list
	case !ok:
		return nil, fmt.Errorf("is %s, want a list of layer types", literal(value))
	case len(given) != layers:
		return nil, fmt.Errorf("has %d entries for %d layers", len(given), layers)
	}
	types := make([]string, len(given))
	for i, v := range given {
		types[i], _ = v.(string)
		if types[i] != fullAttention && types[i] != slidingAttention {
			return nil, fmt.Errorf("has %s for layer %d, want %s or %s", literal(v), i, fullAttention, slidingAttention)
		}
	}
	return types, nil
}

func (a *Arch) checkLayerTypes() error {
	if a.Window == 0 && slices.Contains(a.layerTypes, slidingAttention) {
		return fmt.Errorf("config.json: layer_types has %s, but there is no sliding_window in use", slidingAttention)
	}
	return nil
}
