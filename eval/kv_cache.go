package eval

import (
	"cmp"
	"fmt"
	"strings"

	"gqa/internal/device"
	"gqa/internal/engine/infer"
)

// KVCache says what a model's KV cache keeps. The zero value is all tokens, in f32.
type KVCache struct {
	DType string // one of KVDTypes; empty means f32
	// Window, if not 0, is how many of the last tokens of a sequence are kept, beside its first Sinks (StreamingLLM; Xiao et al.,
	// arXiv 2309.17453). As there, rotary positions are those in the cache.
	Window, Sinks int
}

// KVDTypes are the data types of a KV cache. Those of integers have a scale, of f32, per token and KV head, in keys and in values, or per latent.
var KVDTypes = []string{"f32", "bf16", "f16", "int8", "int4"}

var formatNames = map[device.Format]string{device.F32: "f32", device.BF16: "bf16", device.F16: "f16", device.Int8: "int8", device.Int4: "int4"}

// kept returns the options in the decoder's form.
func (c KVCache) kept() (infer.Kept, error) {
	for f, name := range formatNames {
		if name == cmp.Or(c.DType, "f32") {
			return infer.Kept{Format: f, Window: c.Window, Sinks: c.Sinks}, nil
		}
	}
	return infer.Kept{}, fmt.Errorf("a KV cache in %s: want one of %s", c.DType, strings.Join(KVDTypes, ", "))
}

// keptText describes a cache: "int8, window 1024, sinks 4".
func keptText(k infer.Kept) string {
	if k.Window == 0 {
		return formatNames[k.Format]
	}
	return fmt.Sprintf("%s, window %d, sinks %d", formatNames[k.Format], k.Window, k.Sinks)
}

// kvBytes returns the size of a cache for one token: of self-attention, and of cross-attention per token of the source.
func (m *Model) kvBytes(k infer.Kept) (own, cross int64) {
	for layer := range m.Arch.Layers {
		rows, width := m.Arch.CacheRows(layer)
		own += int64(rows) * int64(infer.RowBytes(k.Format, width))
	}
	if !m.Arch.Causal {
		own = 0
	}
	return own, m.Arch.CrossKVBytesPerToken(1) / int64(m.Arch.HeadDim) * int64(infer.RowBytes(k.Format, m.Arch.HeadDim))
}

// cacheBytes returns the size of a cache for a number of tokens of each sequence, and a source of the same length.
func (m *Model) cacheBytes(k infer.Kept, sequences, tokens int) float64 {
	own, cross := m.kvBytes(k)
	return float64(sequences) * (float64(own)*float64(k.Tokens(tokens)) + float64(cross)*float64(tokens))
}

// keeps returns what the model's cache keeps.
func (m *Model) keeps() infer.Kept {
	k, _ := m.kv.kept() // checked when the model was loaded
	return k
}
