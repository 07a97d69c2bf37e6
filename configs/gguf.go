package configs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// GGUF says how llama.cpp holds a family: under which of its architectures, and where that differs from the usual one. The
// usual architecture has separate q, k and v, a gate of its own, any head to its own embedding, and names as in
// convert/llamacpp.
type GGUF struct {
	Arch string `yaml:"arch"` // general.architecture
	Why  string `yaml:"why"`  // why llama.cpp cannot hold the family, in place of arch

	Since        string `yaml:"since"`         // the first release that loads it, where that is worth a note
	GroupedSince string `yaml:"grouped_since"` // … that loads fewer KV heads than heads

	Rope        Planes `yaml:"rope"`          // which dims its rotation pairs; empty: it rotates none
	RopeFreqs   bool   `yaml:"rope_freqs"`    // reads a factor per rotated plane, which llama3 scaling needs
	RopeFactors bool   `yaml:"rope_factors"`  // reads two factors per plane, which longrope needs
	FusedQKV    bool   `yaml:"fused_qkv"`     // one attn_qkv, [all q | all k | all v]
	FusedGateUp bool   `yaml:"fused_gate_up"` // one ffn_up, [gate | up]
	FreeHeadDim bool   `yaml:"free_head_dim"` // heads * head_dim need not be dim
	QKNormFrom  int    `yaml:"qk_norm_from"`  // normalises q and k in models of at least so many layers, and in no others
	Ungrouped   bool   `yaml:"ungrouped"`     // has as many KV heads as heads, at every site
	CopyHead    bool   `yaml:"copy_head"`     // a tied head is written as output.weight too
	Window      bool   `yaml:"window"`        // has sliding windows
	PerLayer    string `yaml:"per_layer"`     // the architecture that holds KV heads layer by layer; empty: none does

	// FoldLogitScale: what logits are multiplied with goes into the last norm's weight.
	FoldLogitScale bool `yaml:"fold_logit_scale"`

	Names map[Role]string  `yaml:"names"` // of tensors, without blk.N. and .weight, where they are not the usual ones
	Zeros []Role           `yaml:"zeros"` // biases that it asks for: zeros where the checkpoint has none
	Drop  []Role           `yaml:"drop"`  // tensors that it has no place for and does without
	Does  []string         `yaml:"does"`  // fields that it has as the family does, without a key
	Keys  map[string]any   `yaml:"keys"`  // its own keys, without the architecture: a field's name, or a constant
	Wants map[string][]any `yaml:"wants"` // fields that it can have with these values only
}

// Planes says which two dims of a head a rotation turns together.
type Planes string

// The two conventions, over the first r dims of a head.
const (
	SplitPlanes       Planes = "split"       // i and i + r/2
	InterleavedPlanes Planes = "interleaved" // 2i and 2i + 1
)

// Planes is the convention of the checkpoint's own class.
func (a *Arch) Planes() Planes {
	if a.RopeInterleaved {
		return InterleavedPlanes
	}
	return SplitPlanes
}

// RowsOfPlanes is the order of a query's or key's rows in which their planes lie as to says: row i of the result is row
// RowsOfPlanes[i] of the checkpoint's. It is nil where they lie so already. What is not rotated stays where it is.
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

// check refuses what no file should say.
func (g *GGUF) check() error {
	switch {
	case g == nil:
		return nil
	case (g.Arch == "") == (g.Why == ""):
		return errors.New("gguf: want arch, or why there is none")
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

// feedForward stands for two fields that an architecture may have together only: "gated gelu_tanh".
const feedForward = "feed_forward"

// Value is a field as the checkpoint has it, by the name that family files give it: a float64, bool or string; nil for sizes and
// for what only says where a field comes from.
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

// Knows says whether the architecture has a field: by a key, by itself, or with values that are checked.
func (g *GGUF) Knows(field string) bool {
	_, wanted := g.Wants[field]
	wanted = wanted || field == "logit_scale" && g.FoldLogitScale
	for _, v := range g.Keys {
		name, _, _ := strings.Cut(strings.TrimPrefix(fmt.Sprint(v), "1 / "), " ")
		wanted = wanted || name == field
	}
	return wanted || slices.Contains(g.Does, field)
}

// Unwanted names the fields that llama.cpp's architecture cannot have as this checkpoint has them, "" if there are none.
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
