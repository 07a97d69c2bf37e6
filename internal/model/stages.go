package model

import (
	"gqa/configs"
	"gqa/internal/ops"
)

// Start returns the input of the first layer, the batch's embeddings: [tokens, dim].
func (m *Model[T]) Start(e ops.Ops[T], b ops.Batch) T {
	x := scaled(e, projected(e, e.Embed(m.embed, b.IDs, 0), m.projectIn), m.Arch.EmbedScale)
	if m.Arch.Position == configs.PositionLearned {
		x = e.Add(x, e.Embed(m.positions, b.Pos, m.Arch.PositionOffset))
	}
	if m.Arch.TokenTypes > 0 {
		x = e.Add(x, e.Embed(m.tokenTypes, tokenTypes(b), 0))
	}
	return normed(e, x, m.embedNorm)
}

// Layer runs layer i on the output of the layer before it: [tokens, dim] -> [tokens, dim].
func (m *Model[T]) Layer(i int, e ops.Ops[T], x T, b ops.Batch) T {
	return m.layers[i].forward(e, m, x, m.share(e, b), b)
}

// End returns the input of the head, given the output of the last layer: [tokens, dim].
func (m *Model[T]) End(e ops.Ops[T], x T) T {
	x = projected(e, normed(e, x, m.finalNorm), m.projectOut)
	if m.headNorm != nil {
		x = normed(e, e.Activate(e.Linear(x, m.headDense), m.Arch.Activation), m.headNorm)
	}
	return scaled(e, x, m.Arch.LogitScale)
}

// Read returns the input of layer i's self-attention, given the output of the layer before it: [tokens, dim].
func (m *Model[T]) Read(i int, e ops.Ops[T], x T) T {
	if m.Arch.Residual == configs.PostNorm {
		return x
	}
	return normed(e, x, m.layers[i].attnNorm)
}

// Attend runs only the self-attention of layer i, including projections, on its input: [tokens, dim] -> [tokens, dim].
func (m *Model[T]) Attend(i int, e ops.Ops[T], x T, b ops.Batch) T {
	var s shared[T]
	s.bias, s.hasBias = m.bias(e, b)
	return m.layers[i].attend(e, m, x, s, b)
}

// Between returns the residual stream after the self-attention of layer i, to which its cross-attention is added, and
// the input of the cross-attention.
func (m *Model[T]) Between(i int, e ops.Ops[T], x T, b ops.Batch) (residual, read T) {
	attn := normed(e, m.Attend(i, e, m.Read(i, e, x), b), m.layers[i].attnOutNorm)
	residual = e.Add(x, scaled(e, attn, m.Arch.ResidualScale))
	return residual, normed(e, residual, m.layers[i].cross.norm)
}

// AttendMemory runs only the cross-attention of layer i, including projections, on the input of its queries: [tokens,
// dim] -> [tokens, dim].
func (m *Model[T]) AttendMemory(i int, e ops.Ops[T], x T, b ops.Batch) T {
	return m.layers[i].cross.attend(e, x, m.share(e, b), b)
}

// SetLayer replaces the weights of layer i, by name as in New. A model that is run layer by layer needs to hold only
// one layer.
func (m *Model[T]) SetLayer(i int, weight func(name string) (T, bool)) {
	m.layers[i] = builder[T]{arch: m.Arch, weight: weight}.layer(i)
}

// SetDistances replaces the stack's table of position biases.
func (m *Model[T]) SetDistances(table T) { m.distances = table }
