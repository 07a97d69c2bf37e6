package configs

import "slices"

// Site is a kind of attention module, by its place in the model.
type Site string

// Sites. A model has only DecoderSelf, only EncoderSelf, or all three.
const (
	DecoderSelf Site = "decoder_self" // each token attends to those before it
	Cross       Site = "cross"        // the decoder's tokens attend to the encoder's
	EncoderSelf Site = "encoder_self" // every token attends to every other
)

// Sites returns the kinds of attention that the architecture has.
func (a *Arch) Sites() []Site {
	switch {
	case a.EncoderLayers > 0:
		return []Site{DecoderSelf, Cross, EncoderSelf}
	case a.Causal:
		return []Site{DecoderSelf}
	}
	return []Site{EncoderSelf}
}

// DefaultSites returns the sites that a conversion changes by default: all but the self-attention of an encoder with a
// decoder, which processes its tokens once and keeps no cache (Ainslie et al. 2023, section 2.2).
func (a *Arch) DefaultSites() []Site {
	if a.EncoderLayers > 0 {
		return []Site{DecoderSelf, Cross}
	}
	return a.Sites()
}

// SiteKVHeads returns the number of KV heads of a kind of site.
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

// WithKVHeads returns the same architecture with another number of KV heads at the given sites, or at the default ones
// if there are none.
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

// LegalGroups returns the group counts that a conversion of the given sites (by default, the default ones) can reach,
// in increasing order: the common divisors of the KV heads of all their layers.
func (a *Arch) LegalGroups(sites ...Site) []int {
	if a.IsLatent() { // there are no keys and values of heads to merge
		return []int{a.Heads}
	}
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

// KVDim returns the width of a layer's keys (or values) per token in the decoder's self-attention.
func (a *Arch) KVDim() int { return a.KVHeads * a.HeadDim }

// KVBytesPerToken returns the size of the KV cache for one token over all layers, at elementSize bytes per element. It
// is 0 for a model that does not decode.
func (a *Arch) KVBytesPerToken(elementSize int) int64 {
	if !a.Causal {
		return 0
	}
	var size int64
	for layer := range a.Layers {
		rows, width := a.CacheRows(layer)
		size += int64(rows) * int64(width)
	}
	return size * int64(elementSize)
}

// CrossKVBytesPerToken returns the size of the cross-attention cache for one encoder token, over all layers of the
// decoder.
func (a *Arch) CrossKVBytesPerToken(elementSize int) int64 {
	if a.EncoderLayers == 0 {
		return 0
	}
	return 2 * int64(a.Layers) * int64(a.CrossKVHeads*a.HeadDim) * int64(elementSize)
}

// Encoder returns the architecture of the encoder, a separate stack over the same embedding with the family's encoder
// tensors, or nil if there is none.
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
