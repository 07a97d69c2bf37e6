package llamacpp

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gqa/checkpoints"
	"gqa/checkpoints/gguf"
	"gqa/configs"
)

// key is a key of the architecture's own.
func (b *builder) key(name string) string { return archName(b.arch) + "." + name }

// archName is the architecture that holds a: another where layers have KV heads of their own.
func archName(a *configs.Arch) string {
	if a.LayerKVHeads != nil {
		return a.Family.GGUF.PerLayer
	}
	return a.Family.GGUF.Arch
}

// kvHeads is the number of KV heads or, where they differ, the list of each layer's.
func (b *builder) kvHeads() any {
	if b.arch.LayerKVHeads == nil {
		return uint32(b.arch.KVHeads)
	}
	list := make([]int32, b.arch.Layers) // its loader takes lists of no other integers
	for i, n := range b.arch.LayerKVHeads {
		list[i] = int32(n)
	}
	return list
}

// keys are the hyperparameters.
func (b *builder) keys(name string, tensors []Tensor) ([]gguf.Key, error) {
	a := b.arch
	keys := []gguf.Key{
		{Name: "general.architecture", Value: archName(a)},
		{Name: "general.type", Value: "model"},
		{Name: "general.name", Value: name},
		{Name: "general.file_type", Value: fileType(tensors)},
		{Name: b.key("vocab_size"), Value: uint32(a.Vocab)},
		{Name: b.key("context_length"), Value: uint32(b.context())},
		{Name: b.key("embedding_length"), Value: uint32(a.Dim)},
		{Name: b.key("block_count"), Value: uint32(cmp.Or(a.EncoderLayers, a.Layers))},
		{Name: b.key("feed_forward_length"), Value: uint32(a.FFN)},
		{Name: b.key("attention.head_count"), Value: uint32(a.Heads)},
		{Name: b.key("attention.head_count_kv"), Value: b.kvHeads()},
		{Name: b.key("attention.key_length"), Value: uint32(a.HeadDim)},
		{Name: b.key("attention.value_length"), Value: uint32(a.HeadDim)},
	}
	epsilon := "attention.layer_norm_epsilon"
	if a.Norm == configs.RMSNorm {
		epsilon = "attention.layer_norm_rms_epsilon"
	}
	keys = append(keys, gguf.Key{Name: b.key(epsilon), Value: float32(a.NormEps)})
	if b.gguf.Rope != "" {
		keys = append(keys, b.ropeKeys()...)
	}
	if b.gguf.Window {
		keys = append(keys, gguf.Key{Name: b.key("attention.sliding_window"), Value: uint32(a.Window)})
	}
	if a.Position == configs.PositionT5 {
		keys = append(keys, gguf.Key{Name: b.key("attention.relative_buckets_count"), Value: uint32(a.Relative.Buckets)})
	}
	if a.TokenTypes > 0 {
		keys = append(keys, gguf.Key{Name: "tokenizer.ggml.token_type_count", Value: uint32(a.TokenTypes)})
	}
	if a.EncoderLayers > 0 {
		keys = append(keys,
			gguf.Key{Name: b.key("decoder_block_count"), Value: uint32(a.Layers)},
			gguf.Key{Name: b.key("decoder_start_token_id"), Value: uint32(a.StartToken)})
	}
	for _, name := range slices.Sorted(maps.Keys(b.gguf.Keys)) {
		value, err := b.value(b.gguf.Keys[name])
		if err != nil {
			return nil, fmt.Errorf("families/%s.yaml: gguf: keys: %s: %w", a.Family.Name, name, err)
		}
		keys = append(keys, gguf.Key{Name: b.key(name), Value: value})
	}
	return keys, nil
}

// context is how many tokens llama.cpp may read: no more than a sliding window, where it has none.
func (b *builder) context() int {
	if w := b.narrowest(); w > 0 {
		return min(w, b.arch.Context)
	}
	return b.arch.Context
}

// narrowest is the narrowest sliding window that llama.cpp does not have, 0 if there is none.
func (b *builder) narrowest() (narrowest int) {
	if b.gguf.Window {
		return 0
	}
	for layer := range b.arch.Layers {
		if w := b.arch.LayerWindow(layer); w > 0 && (narrowest == 0 || w < narrowest) {
			narrowest = w
		}
	}
	return narrowest
}

// value is what a key of the family's gguf section stands for: "field", "1 / field", "field = value", or a constant.
func (b *builder) value(v any) (any, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case uint64:
		return uint32(v), nil
	case float64:
		return float32(v), nil
	case string:
		inverse, inverted := strings.CutPrefix(v, "1 / ")
		field, want, compared := strings.Cut(inverse, " = ")
		got := b.arch.Value(field)
		if compared {
			return fmt.Sprint(got) == want, nil
		}
		switch got := got.(type) {
		case bool:
			return got, nil
		case float64:
			if inverted {
				got = 1 / got
			}
			return float32(got), nil
		}
	}
	return nil, fmt.Errorf("%v is neither a constant nor a field that is a number or a bool", v)
}

// fileType is llama.cpp's number of what most of the weights are.
func fileType(tensors []Tensor) uint32 {
	for _, t := range tensors {
		switch t.DType {
		case checkpoints.F16:
			return 1
		case checkpoints.BF16:
			return 32
		}
	}
	return 0
}
