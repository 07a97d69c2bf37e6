package model

import (
	"gqa/configs"
	"gqa/internal/ops"
)

// Start is what the first layer reads: the batch's embeddings, [tokens, dim].
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

// Layer runs layer i on what the one before left: [tokens, dim] -> [tokens, dim].
func (m *Model[T]) Layer(i int, e ops.Ops[T], x T, b ops.Batch) T {
	return m.layers[i].forward(e, m, x, m.share(e, b), b)
}

// End is what the head reads of what the last layer left: [tokens, dim].
func (m *Model[T]) End(e ops.Ops[T], x T) T {
	x = projected(e, normed(e, x, m.finalNorm), m.projectOut)
	if m.headNorm != nil {
		x = normed(e, e.Activate(e.Linear(x, m.headDense), m.Arch.Activation), m.headNorm)
	}
	return scaled(e, x, m.Arch.LogitScale)
}

// Read is what the self-attention of layer i reads of what the layer before left: [tokens, dim].
func (m *Model[T]) Read(i int, e ops.Ops[T], x T) T {
	if m.Arch.Residual == configs.PostNorm {
		return x
	}
	return normed(e, x, m.layers[i].attnNorm)
}

// Attend runs the self-attention of layer i alone, projections included, on what it reads: [tokens, dim] -> [tokens, dim].
func (m *Model[T]) Attend(i int, e ops.Ops[T], x T, b ops.Batch) T {
	return m.layers[i].attend(e, m, x, shared[T]{bias: m.bias(e, b)}, b)
}

// Between is the stream behind the self-attention of layer i, to which its cross-attention is added, and what that reads of it.
func (m *Model[T]) Between(i int, e ops.Ops[T], x T, b ops.Batch) (stream, read T) {
	attn := normed(e, m.Attend(i, e, m.Read(i, e, x), b), m.layers[i].attnOutNorm)
	stream = e.Add(x, scaled(e, attn, m.Arch.ResidualScale))
	return stream, normed(e, stream, m.layers[i].cross.norm)
}

// AttendMemory runs the cross-attention of layer i alone, projections included, on what its queries read: [tokens, dim] ->
// [tokens, dim].
func (m *Model[T]) AttendMemory(i int, e ops.Ops[T], x T, b ops.Batch) T {
	return m.layers[i].cross.attend(e, x, m.share(e, b), b)
}

// SetLayer gives layer i other weights, by name as in New. A model that is run layer by layer need not hold more than one.
func (m *Model[T]) SetLayer(i int, weight func(name string) (T, bool)) {
	m.layers[i] = builder[T]{arch: m.Arch, weight: weight}.layer(i)
}

// SetDistances gives the stack another table of position biases.
func (m *Model[T]) SetDistances(table T) { m.distances = table }
