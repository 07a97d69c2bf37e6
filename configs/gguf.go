package configs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// GGUF describes how llama.cpp stores a family: which of its architectures to use, and how that differs from the usual
// one. The usual architecture has separate q, k and v, a separate gate, any head in a tensor of its own, and the names
// listed in internal/llamacpp.
type GGUF struct {
	Arch string `yaml:"arch"` // general.architecture
	Why  string `yaml:"why"`  // why llama.cpp cannot store the family; excludes arch

	Since        string `yaml:"since"`         // first release that loads it, if worth a note
	GroupedSince string `yaml:"grouped_since"` // … that loads it with fewer KV heads than heads

	Rope        Planes `yaml:"rope"`          // pairs of dims that it rotates; empty: none
	RopeFreqs   bool   `yaml:"rope_freqs"`    // reads one factor per rotated plane, which llama3 scaling needs
	RopeFactors bool   `yaml:"rope_factors"`  // reads two factors per plane, which longrope needs
	FusedQKV    bool   `yaml:"fused_qkv"`     // one attn_qkv, [all q | all k | all v]
	FusedGateUp bool   `yaml:"fused_gate_up"` // one ffn_up, [gate | up]
	FreeHeadDim bool   `yaml:"free_head_dim"` // heads * head_dim need not be dim
	QKNormFrom  int    `yaml:"qk_norm_from"`  // normalises q and k in models with at least this many layers, and only in those
	Ungrouped   bool   `yaml:"ungrouped"`     // requires as many KV heads as heads, at every site
	CopyHead    bool   `yaml:"copy_head"`     // a tied head is written as output.weight too
	Window      bool   `yaml:"window"`        // supports sliding windows
	PerLayer    string `yaml:"per_layer"`     // the architecture that supports different numbers of KV heads per layer; empty: none

	// FoldLogitScale means that the factor of the logits is folded into the last norm's weight.
	FoldLogitScale bool `yaml:"fold_logit_scale"`

	Names map[Role]string  `yaml:"names"` // tensor names, without blk.N. and .weight, that differ from the usual ones
	Zeros []Role           `yaml:"zeros"` // biases that it requires: zeros if the checkpoint has none
	Drop  []Role           `yaml:"drop"`  // tensors that it does not store and does not need
	Does  []string         `yaml:"does"`  // fields that it implements as the family does, without a key
	Keys  map[string]any   `yaml:"keys"`  // its other keys, without the architecture: a field's name or a constant
	Wants map[string][]any `yaml:"wants"` // fields that it supports only with these values
}

// Planes is the convention for which two dims of a head are rotated together.
type Planes string

// The two conventions, for the first r dims of a head.
const (
	SplitPlanes       Planes = "split"       // i and i + r/2
	InterleavedPlanes Planes = "interleaved" // 2i and 2i + 1
)

// Planes returns the convention of the checkpoint's own class.
func (a *Arch) Planes() Planes {
	if a.RopeInterleaved {
		return InterleavedPlanes
	}
	return SplitPlanes
}

// RowsOfPlanes returns the order of the rows of a query or key projection that changes the planes to the convention to:
// row i of the result is row RowsOfPlanes[i] of the checkpoint's. It returns nil if the order is already right. Rows
// that are not rotated keep their places.
func (a *Arch) RowsOfPlanes(to Planes, rows int) []int {
	if a.Planes() == to {
		return nil
	}
	half := (a.Rope.Dim + 1) / 2
	order := make([]int, rows)
	for i := range order {
		head, d := i/a.HeadDim*a.HeadDim, i%a.HeadDim
		switch {
		case d >= 2*half: // not rotated
		case to == InterleavedPlanes:
			d = d/2 + d%2*half
		default:
			d = d%half*2 + d/half
		}
		order[i] = head + d
	}
	return order
}

// check reports mistakes in a family file.
func (g *GGUF) check() error {
	switch {
	case g == nil:
		return nil
	case (g.Arch == "") == (g.Why == ""):
		return errors.New("gguf: want arch or why")
	case !slices.Contains([]Planes{"", SplitPlanes, InterleavedPlanes}, g.Rope):
		return fmt.Errorf("gguf: rope is %q, want split or interleaved", g.Rope)
	}
	for field := range g.Wants {
		if kindOf(field) == 0 && field != feedForward {
			return fmt.Errorf("gguf: wants: %q is not a field", field)
		}
	}
	return nil
}

// feedForward stands for two fields that are supported only in certain combinations: "gated gelu_tanh".
const feedForward = "feed_forward"

// Value returns the checkpoint's value of a field, by its name in family files, as a float64, bool or string. It
// returns nil for sizes and for fields that only say where another field comes from.
func (a *Arch) Value(field string) any {
	return map[string]any{
		"norm_offset": a.NormOffset, "tied": a.Tied, "attn_bias": a.AttnBias, "mlp_bias": a.MLPBias, "qk_norm": a.Has(QNorm),
		"clip_qkv": a.ClipQKV, "embed_scale": a.EmbedScale, "residual_scale": a.ResidualScale, "logit_scale": a.LogitScale,
		"score_scale": a.ScoreScale, "scale_scores": a.ScaleScores, "scale_by_layer": a.ScaleByLayer,
		"norm": string(a.Norm), "mlp": string(a.MLP), "residual": string(a.Residual), "position": string(a.Position),
		"activation": a.Activation.String(), "alibi_max": a.ALiBi.Max, "alibi_coarse": a.ALiBi.Coarse,
		"position_offset": float64(a.PositionOffset), "relative_distance": float64(a.Relative.MaxDistance),
		feedForward: string(a.MLP) + " " + a.Activation.String(),
	}[field]
}

// Knows reports whether the architecture supports a field: by a key, implicitly, or with values that are checked.
func (g *GGUF) Knows(field string) bool {
	_, wanted := g.Wants[field]
	wanted = wanted || field == "logit_scale" && g.FoldLogitScale
	for _, v := range g.Keys {
		name, _, _ := strings.Cut(strings.TrimPrefix(fmt.Sprint(v), "1 / "), " ")
		wanted = wanted || name == field
	}
	return wanted || slices.Contains(g.Does, field)
}

// Unwanted names the fields whose values in this checkpoint llama.cpp's architecture does not support, or returns "".
func (g *GGUF) Unwanted(a *Arch) string {
	var all []string
	for field, values := range g.Wants {
		got := fmt.Sprint(a.Value(field))
		if !slices.ContainsFunc(values, func(v any) bool { return fmt.Sprint(v) == got }) {
			all = append(all, fmt.Sprintf("%s %s, not %s", field, either(values), got))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func either(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, " or ")
}
