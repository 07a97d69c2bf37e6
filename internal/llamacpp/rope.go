package llamacpp

import (
	"fmt"
	"math"
	"slices"

	"gqa/checkpoints"
	"gqa/checkpoints/gguf"
	"gqa/configs"
)

// checkRope rejects rotations that llama.cpp does not support.
func checkRope(a *configs.Arch) error {
	g, r := a.Family.GGUF, a.Rope
	switch {
	case g.Rope == "":
		return nil
	case r.Dim < 2 || r.Dim%2 != 0:
		return fmt.Errorf("llama.cpp's %s requires an even number of rotated dims, not %d", g.Arch, r.Dim)
	case r.Type == "llama3" && !g.RopeFreqs:
		return fmt.Errorf("llama.cpp's %s has no llama3 scaling of rotary frequencies", g.Arch)
	case r.Type == "longrope" && !g.RopeFactors:
		return fmt.Errorf("llama.cpp's %s has no longrope scaling of rotary frequencies", g.Arch)
	case r.Type == "yarn" && (r.BetaFast != 32 || r.BetaSlow != 1 || !r.Truncate):
		return fmt.Errorf("llama.cpp requires yarn with beta_fast 32, beta_slow 1 and truncate true, not %g, %g and %v", r.BetaFast, r.BetaSlow, r.Truncate)
	}
	return nil
}

// ropeKeys returns the keys for the rotation.
func (b *builder) ropeKeys() []gguf.Key {
	r := b.arch.Rope
	keys := []gguf.Key{b.number("rope.dimension_count", r.Dim), b.float("rope.freq_base", r.Theta)}
	switch r.Type {
	case "longrope":
		return append(keys, b.originalContext(), b.float("rope.scaling.attn_factor", r.Scale()))
	case "linear", "yarn":
		keys = append(keys, gguf.Key{Name: b.key("rope.scaling.type"), Value: r.Type}, b.float("rope.scaling.factor", r.Factor))
	}
	if r.Type == "yarn" {
		usual := 0.1*math.Log(r.Factor) + 1 // the factor that llama.cpp applies by itself
		keys = append(keys, b.originalContext(), b.float("rope.scaling.attn_factor", r.Scale()/usual))
	}
	return keys
}

// float returns one of the architecture's own keys with a float value.
func (b *builder) float(name string, x float64) gguf.Key {
	return gguf.Key{Name: b.key(name), Value: float32(x)}
}

// originalContext returns the key for the context length before positions were scaled.
func (b *builder) originalContext() gguf.Key {
	return gguf.Key{Name: b.key("rope.scaling.original_context_length"), Value: uint32(b.arch.Rope.OriginalContext)}
}

// ropeTensors returns the divisors of each plane's angle: a single tensor for llama3 scaling, two for longrope, with
// the factors up to and beyond the original context.
func (b *builder) ropeTensors() []Tensor {
	r := b.arch.Rope
	switch {
	case b.gguf.Rope == "":
		return nil
	case r.Type == "longrope":
		return []Tensor{factors("rope_factors_long", r.LongFactors), factors("rope_factors_short", r.ShortFactors)}
	case r.Type != "llama3":
		return nil
	}
	scaled := r.InvFreq()
	r.Type = "default"
	ratios := r.InvFreq()
	for i := range ratios {
		ratios[i] /= scaled[i]
	}
	return []Tensor{factors("rope_freqs", ratios)}
}

func factors(name string, values []float64) Tensor {
	narrow := make([]float32, len(values))
	for i, v := range values {
		narrow[i] = float32(v)
	}
	spec := checkpoints.Spec{Name: name + ".weight", DType: checkpoints.F32, Shape: []int{len(values)}}
	return Tensor{spec, []Part{{Param: -1, Values: narrow}}}
}

// rotated returns the order of rows in which llama.cpp reads a query or key weight, or nil if it is the checkpoint's.
// In some of its architectures the two dims of a plane are adjacent, in others they are half the rotated dims apart.
func (b *builder) rotated(p configs.Param) []int {
	turns := []configs.Role{configs.Q, configs.K, configs.QNorm, configs.KNorm}
	if b.gguf.Rope == "" || !slices.Contains(turns, p.Role) {
		return nil
	}
	return b.arch.RowsOfPlanes(b.gguf.Rope, p.Shape[0])
}
