package model

import (
	"gqa/configs"
	"gqa/internal/ops"
)

// latent is the latent self-attention of a decoder layer, but for its output projection.
type latent[T any] struct {
	down      []ops.Linear[T] // rotary key and latent; before them the queries, or the latent that these come from
	queries   []ops.Linear[T] // of the latent that queries come from; nil: there is none
	queryNorm *ops.Norm[T]
	norm      *ops.Norm[T]
	attention ops.Latent[T]
}

// latent builds layer i's latent attention, given the rest of its attention.
func (b builder[T]) latent(i int, a ops.Attention[T]) *latent[T] {
	sizes := b.arch.At(i).Latent
	a.HeadDim, a.ValueDim = sizes.HeadDim(), sizes.ValueDim
	l := &latent[T]{
		norm: b.latentNorm(configs.KVANorm, i), queryNorm: b.latentNorm(configs.QANorm, i),
		attention: ops.Latent[T]{
			Attention: a, NopeDim: sizes.NopeDim, RopeDim: sizes.RopeDim, Rank: sizes.Rank,
			KeyUp: b.linear(configs.KeyUp, i), ValueUp: b.linear(configs.ValueUp, i),
		},
	}
	queries := b.linears(i, configs.QRope)
	if sizes.NopeDim > 0 {
		queries = b.linears(i, configs.QNope, configs.QRope)
	}
	if sizes.QueryRank > 0 {
		l.queries = queries
		queries = b.linears(i, configs.QA)
	}
	l.down = append(queries, b.linears(i, configs.KRope, configs.LatentKV)...)
	return l
}

// latentNorm is norm for the norm of a latent.
func (b builder[T]) latentNorm(role configs.Role, layer int) *ops.Norm[T] {
	n := b.norm(role, layer)
	if n != nil {
		n.Layer, n.Offset, n.Eps = false, 0, float32(b.arch.Latent.NormEps)
	}
	return n
}

// latentRopes returns the rotary embedding of each layer; nil if all have the same.
func latentRopes(a *configs.Arch, shared *ops.Rope) []*ops.Rope {
	if !a.IsLatent() || a.Latent.InvFreq == nil && a.LatentLayers == nil {
		return nil
	}
	own := func(freqs []float64) *ops.Rope {
		return &ops.Rope{InvFreq: freqs, Interleaved: shared.Interleaved, Scale: 1, Positions: shared.Positions}
	}
	ropes, all := make([]*ops.Rope, a.Layers), own(a.Latent.InvFreq)
	for i := range ropes {
		if ropes[i] = all; a.LatentLayers != nil {
			ropes[i] = own(a.LatentLayers[i].InvFreq)
		}
	}
	return ropes
}

// SetLatentForm sets the form in which latent attention is computed.
func (m *Model[T]) SetLatentForm(f ops.LatentForm) {
	for i := range m.layers {
		if l := m.layers[i].latent; l != nil {
			l.attention.Form = f
		}
	}
}

// attend returns the heads' results, [tokens, heads*valueDim], for the attention's input x.
func (l *latent[T]) attend(e ops.Ops[T], m *Model[T], x T, b ops.Batch) T {
	a, rope := l.attention, m.rope
	if m.latentRopes != nil {
		rope = m.latentRopes[a.Site]
	}
	down := ops.Linears(e, x, l.down)
	first := len(down) - 2
	key, latent := down[first], down[first+1]
	queries := down[:first]
	if l.queries != nil {
		queries = ops.Linears(e, normed(e, queries[0], l.queryNorm), l.queries)
	}
	turned := queries[len(queries)-1]
	var nope T
	if a.NopeDim > 0 {
		nope = queries[0]
	}
	turned, key = ops.RotatePair(e, turned, key, rope, b.Pos, a.Heads, 1, a.RopeDim)
	return e.AttendLatent(nope, turned, normed(e, latent, l.norm), key, a, b)
}
