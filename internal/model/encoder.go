package model

import (
	"gqa/configs"
	"gqa/internal/ops"
)

// cross is a decoder layer's attention to the encoder's output, between its self-attention and its MLP (Vaswani et al.,
// arXiv 1706.03762, section 3.2.3).
type cross[T any] struct {
	norm       *ops.Norm[T]
	q, k, v, o ops.Linear[T]
	attention  ops.Attention[T]
}

// encoder builds the encoder of an encoder-decoder model, which shares the embedding; nil if there is none.
func (b builder[T]) encoder() *Model[T] {
	arch := b.arch.Encoder()
	if arch == nil {
		return nil
	}
	return New(arch, func(name string) (T, bool) {
		if name == configs.ParamName(configs.Embed, -1, false) {
			return b.weight(name)
		}
		return b.weight(configs.EncoderPrefix + name)
	})
}

// cross builds layer i's cross-attention; nil if there is no encoder.
func (b builder[T]) cross(i int) *cross[T] {
	if b.arch.EncoderLayers == 0 {
		return nil
	}
	return &cross[T]{
		norm: b.norm(configs.CrossNorm, i),
		q:    b.linear(configs.CrossQ, i), k: b.linear(configs.CrossK, i), v: b.linear(configs.CrossV, i), o: b.linear(configs.CrossO, i),
		attention: ops.Attention[T]{
			Site: i, Heads: b.arch.Heads, KVHeads: b.arch.CrossKVHeads, HeadDim: b.arch.HeadDim,
			Scale: float32(b.arch.LayerScoreScale(i)), Cross: true,
		},
	}
}

// shared is the input that all layers of a stack share.
type shared[T any] struct {
	memory    T // the encoder's output, if hasMemory
	hasMemory bool
	bias      T // of scores, for relative positions, if hasBias
	hasBias   bool
}

// share runs the encoder and gathers the position bias. It must precede the embedding: engines release memory allocated
// after the first residual.
func (m *Model[T]) share(e ops.Ops[T], b ops.Batch) (s shared[T]) {
	switch {
	case m.hasMemory:
		s.memory, s.hasMemory = m.memory, true
	case m.encoder != nil && b.Source != nil:
		s.memory, s.hasMemory = m.encoder.Hidden(e, *b.Source), true
	}
	s.bias, s.hasBias = m.bias(e, b)
	return s
}

// bias returns the bias of the scores that all layers share, if they share one.
func (m *Model[T]) bias(e ops.Ops[T], b ops.Batch) (bias T, ok bool) {
	if m.hasDistances {
		bias = e.RelativeBias(m.distances, m.relative(), b)
	}
	return bias, m.hasDistances
}

// relative returns the parameters of the stack's distance buckets.
func (m *Model[T]) relative() ops.Relative {
	r := m.Arch.Relative
	return ops.Relative{Buckets: r.Buckets, MaxDistance: r.MaxDistance, BothWays: !m.Arch.Causal}
}

// attend returns the cross-attention of x, which has been normalised, to the encoder's output.
func (c *cross[T]) attend(e ops.Ops[T], x T, s shared[T], b ops.Batch) T {
	var k, v T // taken from the engine's cache, unless the encoder has just run
	if b.Source != nil {
		k, v = e.Linear(s.memory, c.k), e.Linear(s.memory, c.v)
	}
	return e.Linear(e.Attend(e.Linear(x, c.q), k, v, c.attention, b), c.o)
}

// Encoder returns the encoder of an encoder-decoder model; nil if there is none.
func (m *Model[T]) Encoder() *Model[T] { return m.encoder }

// Reading returns the decoder of m alone: its cross-attention reads memory, [tokens of Batch.Source, dim], in place of
// the encoder's output. It shares m's layers.
func (m *Model[T]) Reading(memory T) *Model[T] {
	decoder := *m
	decoder.memory, decoder.hasMemory = memory, true
	return &decoder
}

// Encode runs the encoder on source and passes the keys and values of every decoder layer's cross-attention to keep.
func (m *Model[T]) Encode(e ops.Ops[T], source ops.Batch, keep func(site int, k, v T)) {
	memory := m.encoder.Hidden(e, source)
	for i := range m.layers {
		c := m.layers[i].cross
		keep(i, e.Linear(memory, c.k), e.Linear(memory, c.v))
	}
}
