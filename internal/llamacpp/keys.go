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

// key returns the name of one of the architecture's own keys.
func (b *builder) key(name string) string { return archName(b.arch) + "." + name }

// archName returns the architecture for a, which is another one if the number of KV heads differs by layer.
func archName(a *configs.Arch) string {
	if a.LayerKVHeads != nil {
		return a.Family.GGUF.PerLayer
	}
	return a.Family.GGUF.Arch
}

// kvHeads returns the number of KV heads or, if they differ, the list for all layers.
func (b *builder) kvHeads() any {
	if b.arch.LayerKVHeads == nil {
		return uint32(b.arch.KVHeads)
	}
	list := make([]int32, b.arch.Layers) // the loader only accepts lists of this integer type
	for i, n := range b.arch.LayerKVHeads {
		list[i] = int32(n)
	}
	return list
}

// keys returns the hyperparameters.
func (b *builder) keys(name string, tensors []Tensor) ([]gguf.Key, error) {
	keys := append(b.generalKeys(name, tensors), b.attentionKeys()...)
	if b.gguf.Rope != "" {
		keys = append(keys, b.ropeKeys()...)
	}
	if b.gguf.Window {
		keys = append(keys, b.number("attention.sliding_window", b.arch.Window))
	}
	if b.arch.Position == configs.PositionT5 {
		keys = append(keys, b.number("attention.relative_buckets_count", b.arch.Relative.Buckets))
	}
	if b.arch.TokenTypes > 0 {
		keys = append(keys, gguf.Key{Name: "tokenizer.ggml.token_type_count", Value: uint32(b.arch.TokenTypes)})
	}
	if b.arch.EncoderLayers > 0 {
		keys = append(keys, b.number("decoder_block_count", b.arch.Layers), b.number("decoder_start_token_id", b.arch.StartToken))
	}
	family, err := b.familyKeys()
	return append(keys, family...), err
}

// number returns one of the architecture's own keys with an integer value.
func (b *builder) number(name string, n int) gguf.Key {
	return gguf.Key{Name: b.key(name), Value: uint32(n)}
}

// generalKeys returns the keys for the model's name and sizes.
func (b *builder) generalKeys(name string, tensors []Tensor) []gguf.Key {
	a := b.arch
	return []gguf.Key{
		{Name: "general.architecture", Value: archName(a)},
		{Name: "general.type", Value: "model"},
		{Name: "general.name", Value: name},
		{Name: "general.file_type", Value: fileType(tensors)},
		b.number("vocab_size", a.Vocab),
		b.number("context_length", b.context()),
		b.number("embedding_length", a.Dim),
		b.number("block_count", cmp.Or(a.EncoderLayers, a.Layers)),
		b.number("feed_forward_length", a.FFN),
	}
}

// attentionKeys returns the keys for attention, including the epsilon of norms, which llama.cpp lists there.
func (b *builder) attentionKeys() []gguf.Key {
	epsilon := "attention.layer_norm_epsilon"
	if b.arch.Norm == configs.RMSNorm {
		epsilon = "attention.layer_norm_rms_epsilon"
	}
	return []gguf.Key{
		b.number("attention.head_count", b.arch.Heads),
		{Name: b.key("attention.head_count_kv"), Value: b.kvHeads()},
		b.number("attention.key_length", b.arch.HeadDim),
		b.number("attention.value_length", b.arch.HeadDim),
		{Name: b.key(epsilon), Value: float32(b.arch.NormEps)},
	}
}

// familyKeys returns the keys that the family's gguf section lists.
func (b *builder) familyKeys() (keys []gguf.Key, err error) {
	for _, name := range slices.Sorted(maps.Keys(b.gguf.Keys)) {
		value, err := b.value(b.gguf.Keys[name])
		if err != nil {
			return nil, fmt.Errorf("families/%s.yaml: gguf: keys: %s: %w", b.arch.Family.Name, name, err)
		}
		keys = append(keys, gguf.Key{Name: b.key(name), Value: value})
	}
	return keys, nil
}

// context returns the maximum number of tokens for llama.cpp: at most the sliding window, if llama.cpp does not support
// it.
func (b *builder) context() int {
	if w := b.narrowest(); w > 0 {
		return min(w, b.arch.Context)
	}
	return b.arch.Context
}

// narrowest returns the narrowest sliding window not supported by llama.cpp, or 0.
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

// value returns the value of a key in the family's gguf section: "field", "1 / field", "field = value", or a constant.
func (b *builder) value(v any) (any, error) {
	var result any
	switch v := v.(type) {
	case bool:
		result = v
	case uint64:
		result = uint32(v)
	case float64:
		result = float32(v)
	case string:
		result = b.expression(v)
	}
	if result == nil {
		return nil, fmt.Errorf("%v is neither a constant nor a field that is a number or a bool", v)
	}
	return result, nil
}

// expression returns the value of "field", "1 / field" or "field = value"; nil if it has none.
func (b *builder) expression(text string) any {
	inverse, inverted := strings.CutPrefix(text, "1 / ")
	field, want, compared := strings.Cut(inverse, " = ")
	got := b.arch.Value(field)
	if compared {
		return fmt.Sprint(got) == want
	}
	switch got := got.(type) {
	case bool:
		return got
	case float64:
		if inverted {
			got = 1 / got
		}
		return float32(got)
	}
	return nil
}

// fileType returns llama.cpp's number for the dtype of most of the weights.
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
