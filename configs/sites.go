package configs

import "slices"

// Site is a kind of attention module: where in a model it stands.
type Site string

// The sites. A model has the first alone, the last alone, or all.
const (
	DecoderSelf Site = "decoder_self" // each token to those before it
	Cross       Site = "cross"        // the decoder's tokens to the encoder's
	EncoderSelf Site = "encoder_self" // every token to every other
)

// Sites lists the kinds of attention that the architecture has.
func (a *Arch) Sites() []Site {
	switch {
	case a.EncoderLayers > 0:
		return []Site{DecoderSelf, Cross, EncoderSelf}
	case a.Causal:
		return []Site{DecoderSelf}
	}
	return []Site{EncoderSelf}
}

// DefaultSites are those that a conversion changes unless told otherwise: all but an encoder's beside a decoder's, which runs
// once over its tokens and keeps no cache (Ainslie et al. 2023, section 2.2).
func (a *Arch) DefaultSites() []Site {
	if a.EncoderLayers > 0 {
		return []Site{DecoderSelf, Cross}
	}
	return a.Sites()
}

// SiteKVHeads is how many KV heads the sites of a kind have.
func (a *Arch) SiteKVHeads(s Site) int { return *a.siteKVHeads(s) }

func (a *Arch) siteKVHeads(s Site) *int {
	switch {
	case s == Cross:
		return &a.CrossKVHeads
	case s == EncoderSelf && a.EncoderLayers > 0:
		return &a.EncoderKVHeads
	}
	return &a.KVHeads
}

// WithKVHeads is the same architecture with another number of KV heads at the sites, or else at the default ones.
func (a *Arch) WithKVHeads(groups int, sites ...Site) *Arch {
	b := *a
	b.LayerKVHeads = nil
	if len(sites) == 0 {
		sites = a.DefaultSites()
	}
	for _, s := range sites {
		*b.siteKVHeads(s) = groups
	}
	return &b
}

// LegalGroups lists the group counts that a conversion of the sites, or else the default ones, can reach, from one head up:
// what divides the KV heads of each, and of every layer.
func (a *Arch) LegalGroups(sites ...Site) []int {
	if len(sites) == 0 {
		sites = a.DefaultSites()
	}
	kvHeads := slices.Clone(a.LayerKVHeads)
	for _, s := range sites {
		kvHeads = append(kvHeads, a.SiteKVHeads(s))
	}
	var legal []int
	for g := 1; g <= a.Heads; g++ {
		if !slices.ContainsFunc(kvHeads, func(n int) bool { return n%g != 0 }) {
			legal = append(legal, g)
		}
	}
	return legal
}

// KVDim is the width of one layer's keys (or values) per token, in the decoder's own attention.
func (a *Arch) KVDim() int { return a.KVHeads * a.HeadDim }

// KVBytesPerToken is what the KV cache takes for one token over all layers, at elementSize bytes an element. A model that
// decodes nothing has none.
func (a *Arch) KVBytesPerToken(elementSize int) int64 {
	if !a.Causal {
		return 0
	}
	heads := 0
	for layer := range a.Layers {
		heads += a.LayerKV(layer)
	}
	return 2 * int64(heads) * int64(a.HeadDim) * int64(elementSize)
}

// CrossKVBytesPerToken is what cross-attention keeps for one token of the encoder's, over all layers of the decoder.
func (a *Arch) CrossKVBytesPerToken(elementSize int) int64 {
	if a.EncoderLayers == 0 {
		return 0
	}
	return 2 * int64(a.Layers) * int64(a.CrossKVHeads*a.HeadDim) * int64(elementSize)
}

// Encoder is the architecture of the encoder: a stack of its own over the same embedding, with the family's encoder tensors
// as its own. nil: there is none.
func (a *Arch) Encoder() *Arch {
	if a.EncoderLayers == 0 {
		return nil
	}
	b, f := *a, *a.Family
	f.Tensors, f.Layer, f.Encoder = f.Encoder.Tensors, f.Encoder.Layer, nil
	b.Family, b.Layers, b.KVHeads = &f, a.EncoderLayers, a.EncoderKVHeads
	b.EncoderLayers, b.EncoderKVHeads, b.CrossKVHeads, b.Causal = 0, 0, 0, false
	b.LogitScale = 1
	return &b
}
