// Package llamacpp describes how llama.cpp stores a checkpoint in a GGUF file: the architecture, its keys, the tensors
// and the weights they consist of, and the tokenizer. The requirements of its loader are in its source,
// src/llama-model.cpp (load_hparams, load_tensors) and src/llama-vocab.cpp; differences between families are in the
// gguf section of each family's file.
package llamacpp

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gqa/checkpoints"
	"gqa/checkpoints/gguf"
	"gqa/configs"
	"gqa/internal/activation"
)

// Model is a checkpoint as llama.cpp loads it.
type Model struct {
	Arch    string // llama.cpp's name of the architecture
	Keys    []gguf.Key
	Tensors []Tensor
	Notes   []string // where llama.cpp's computations differ from the checkpoint's own class, a sentence each
}

// Tensor is a tensor of the file, the concatenation of its parts along the outermost dimension.
type Tensor struct {
	checkpoints.Spec
	Parts []Part
}

// Part is a range of rows of a tensor: a weight of the forward pass, or computed values.
type Part struct {
	Param  int       // index in the architecture's Params; negative: Values
	Rows   []int     // row i of the part is row Rows[i] of the weight; nil: all rows in order
	Offset float32   // added to every element
	Gain   float32   // factor for every element, if not 0
	Values []float32 // used if Param is negative
}

// Check returns the reason why llama.cpp cannot load a checkpoint, or nil.
func Check(a *configs.Arch) error {
	g := a.Family.GGUF
	switch {
	case g == nil:
		return fmt.Errorf("GGUF is not supported for family %s: families/%s.yaml has no gguf section", a.Family.Name, a.Family.Name)
	case g.Why != "":
		return fmt.Errorf("llama.cpp cannot hold family %s: %s", a.Family.Name, g.Why)
	case a.LayerKVHeads != nil && g.PerLayer == "":
		return fmt.Errorf("llama.cpp's %s requires the same number of KV heads in all layers, not %v", g.Arch, a.LayerKVHeads)
	}
	return cmp.Or(checkFields(a), checkUngrouped(a), checkHeadDim(a), checkRope(a))
}

// checkHeadDim checks that the heads together are as wide as the model, if the architecture requires it.
func checkHeadDim(a *configs.Arch) error {
	if g := a.Family.GGUF; a.Heads*a.HeadDim != a.Dim && (!g.FreeHeadDim || a.AttnBias) {
		return fmt.Errorf("llama.cpp's %s requires heads times head dim to be the model dim %d, not %d × %d", g.Arch, a.Dim, a.Heads, a.HeadDim)
	}
	return nil
}

// UngroupedError reports an attention with fewer KV heads than heads, for an architecture of llama.cpp that has as many
// key heads as query heads.
type UngroupedError struct {
	Arch    string // llama.cpp's name
	Site    configs.Site
	Heads   int
	KVHeads int // at Site
}

// Error states the required number of KV heads.
func (e UngroupedError) Error() string {
	return fmt.Sprintf("llama.cpp's %s gives queries as many heads as keys: it requires %d KV heads in every attention, and %s has %d",
		e.Arch, e.Heads, e.Site, e.KVHeads)
}

// checkUngrouped checks that there are as many KV heads as heads, if the architecture requires it.
func checkUngrouped(a *configs.Arch) error {
	if !a.Family.GGUF.Ungrouped {
		return nil
	}
	for _, site := range a.Sites() {
		if kv := a.SiteKVHeads(site); kv != a.Heads {
			return UngroupedError{a.Family.GGUF.Arch, site, a.Heads, kv}
		}
	}
	return nil
}

// neutral are the values of fields that need no support from an architecture.
var neutral = map[string]any{
	"clip_qkv": 0.0, "embed_scale": 1.0, "residual_scale": 1.0, "logit_scale": 1.0, "score_scale": 0.0,
	"scale_scores": true, "scale_by_layer": false, "position_offset": 0.0,
}

// checkFields compares the checkpoint with llama.cpp's architecture: the values that it requires, and the fields that
// it supports.
func checkFields(a *configs.Arch) error {
	g := a.Family.GGUF
	if unwanted := g.Unwanted(a); unwanted != "" {
		return fmt.Errorf("llama.cpp's %s requires %s", g.Arch, unwanted)
	}
	if n := g.QKNormFrom; n > 0 && a.Has(configs.QNorm) != (a.Layers >= n) {
		return fmt.Errorf("llama.cpp's %s normalises queries and keys in models of %d layers and more, and in no others; this one has %d and qk_norm %v",
			g.Arch, n, a.Layers, a.Has(configs.QNorm))
	}
	for _, field := range slices.Sorted(maps.Keys(neutral)) {
		got := a.Value(field)
		if got != nil && got != neutral[field] && !g.Knows(field) {
			return fmt.Errorf("llama.cpp's %s has no %s, which is %v here", g.Arch, field, got)
		}
	}
	return nil
}

// Describe lays out the checkpoint of a, whose Params it refers to. name is the model's; dtype returns which of F32,
// F16 and BF16 to use for a matrix stored in a given tensor of the checkpoint. Vectors, norms and tables of positions
// are F32.
func Describe(a *configs.Arch, name string, dtype func(tensor string) checkpoints.DType) (*Model, error) {
	if err := Check(a); err != nil {
		return nil, err
	}
	params, err := a.Params()
	if err != nil {
		return nil, err
	}
	b := builder{arch: a, gguf: a.Family.GGUF, dtype: dtype, params: params, index: make(map[string]int, len(params))}
	for i, p := range params {
		b.index[p.Name] = i
	}
	m := &Model{Arch: archName(a)}
	if m.Tensors, err = b.tensors(); err != nil {
		return nil, err
	}
	m.Keys, err = b.keys(name, m.Tensors)
	m.Notes = b.notes()
	return m, err
}

// builder builds a description.
type builder struct {
	arch   *configs.Arch
	gguf   *configs.GGUF
	dtype  func(tensor string) checkpoints.DType
	params []configs.Param
	index  map[string]int // by Param.Name
}

// weight looks up a parameter by its role in the forward pass.
func (b *builder) weight(role configs.Role, at place, bias bool) (int, bool) {
	name := configs.ParamName(role, at.layer, bias)
	if at.encoder {
		name = configs.EncoderPrefix + name
	}
	i, ok := b.index[name]
	return i, ok
}

// notes returns remarks for users of the file.
func (b *builder) notes() []string {
	notes := slices.Concat(b.activationNotes(), b.positionNotes(), b.shapeNotes())
	if b.gguf.Since != "" {
		notes = append(notes, fmt.Sprintf("%s loads in llama.cpp from %s on", b.gguf.Arch, b.gguf.Since))
	}
	if b.gguf.GroupedSince != "" && b.arch.KVHeads < b.arch.Heads {
		notes = append(notes, fmt.Sprintf("%s with fewer KV heads loads in llama.cpp from %s on", b.gguf.Arch, b.gguf.GroupedSince))
	}
	return notes
}

func (b *builder) activationNotes() []string {
	if b.arch.Activation != activation.GELU {
		return nil
	}
	return []string{"llama.cpp uses the tanh approximation of gelu: logits differ in the third digit"}
}

// positionNotes returns remarks on differences in positions.
func (b *builder) positionNotes() (notes []string) {
	r := b.arch.Rope
	if r.Type == "dynamic" {
		notes = append(notes, fmt.Sprintf("dynamic rotary scaling beyond %d positions is not supported", b.arch.Context))
	}
	if w := b.narrowest(); w > 0 && w < b.arch.Context {
		notes = append(notes, fmt.Sprintf("llama.cpp's %s has no sliding window: context_length is the window's %d tokens, up to which both are the same",
			b.gguf.Arch, w))
	}
	if r.Type == "longrope" {
		notes = append(notes, fmt.Sprintf("llama.cpp takes longrope's factors by the size of its context, not by the length of the text: give -c %g or less for the short ones",
			r.OriginalContext))
	}
	if r.Type == "longrope" && r.Dim != b.arch.HeadDim {
		notes = append(notes, fmt.Sprintf("longrope over %d of %d dims loads in llama.cpp from b4800 (March 2025) on", r.Dim, b.arch.HeadDim))
	}
	return notes
}

// shapeNotes returns remarks on the model's stacks and head in llama.cpp.
func (b *builder) shapeNotes() (notes []string) {
	if n := b.arch.EncoderLayers; n > 0 && n != b.arch.Layers {
		notes = append(notes, fmt.Sprintf("an encoder of %d layers beside a decoder of %d loads in llama.cpp from September 2025 on", n, b.arch.Layers))
	}
	if !b.arch.Causal {
		notes = append(notes, fmt.Sprintf("llama.cpp's %s returns embeddings, of all tokens or as pooled by --pooling (none, mean, cls)", b.gguf.Arch))
	}
	if slices.ContainsFunc(b.params, func(p configs.Param) bool { return slices.Contains(b.gguf.Drop, p.Role) }) {
		notes = append(notes, fmt.Sprintf("llama.cpp's %s has no language-modelling head: it is left out", b.gguf.Arch))
	}
	return notes
}

// place is a weight's place in a model.
type place struct {
	layer   int  // -1: outside the layers
	encoder bool // in the encoder of an encoder-decoder model
}

// outside is the place of embeddings and head.
var outside = place{layer: -1}

// placeOf returns the place of a weight.
func placeOf(p configs.Param) place {
	return place{p.Layer, strings.HasPrefix(p.Name, configs.EncoderPrefix)}
}

// tensorName returns a tensor's name without .weight. A table of distances shared by all layers is stored in the first
// of them.
func (b *builder) tensorName(at place, g *group) string {
	name, role := g.name, g.roles[0]
	if role == configs.Distances {
		at.layer = max(at.layer, 0)
	}
	if at.layer >= 0 {
		name = "blk." + strconv.Itoa(at.layer) + "." + name
	}
	switch {
	case b.arch.EncoderLayers == 0 || role == configs.Embed || role == configs.Head:
		return name
	case at.encoder:
		return "enc." + name
	}
	return "dec." + name
}
