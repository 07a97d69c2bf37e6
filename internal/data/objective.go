package data

import (
	"gqa/internal/ops"
)

// Objective turns windows of token IDs into the inputs and targets of a forward pass.
type Objective interface {
	// Batch lays out windows of equal length, and returns the target of every row of the result, -1 for none.
	Batch(windows [][]int32) (b ops.Batch, targets []int32)
	// Rows returns the number of rows of the result for a window of that many IDs.
	Rows(window int) int
}

// NextToken predicts each token of a window, except the first, from those before it. Tokens that are marked as not learned are read
// but not predicted.
type NextToken struct{}

// Rows returns one row per token.
func (NextToken) Rows(window int) int { return window }

// Batch returns the next token as the target of each token, and no target for the last token of a window.
func (NextToken) Batch(windows [][]int32) (ops.Batch, []int32) {
	targets := make([]int32, 0, len(windows)*len(windows[0]))
	ids := make([][]int32, len(windows))
	for i, w := range windows {
		ids[i] = IDs(w)
		for _, token := range w[1:] {
			targets = append(targets, target(token))
		}
		targets = append(targets, -1)
	}
	return ops.NewBatch(ids...), targets
}

// Packed is NextToken for windows of several documents: positions start again with each, a token sees its own document alone, and the
// end of one does not predict the start of the next.
type Packed struct{ NextToken }

// Batch returns windows with the starts of their documents.
func (p Packed) Batch(windows [][]int32) (ops.Batch, []int32) {
	b, targets := p.NextToken.Batch(windows)
	b.Firsts = make([]int32, len(b.IDs))
	for s, w := range windows {
		first, row := 0, s*b.Len
		for i, token := range w {
			if isStart(token) && i > 0 {
				first = i
				targets[row+i-1] = -1
			}
			b.Firsts[row+i], b.Pos[row+i] = int32(first), int32(i-first)
		}
	}
	return b, targets
}

// Labelled windows consist of IDs, with -1 for padding, followed by Labels labels, with -1 for no target.
type Labelled struct {
	Labels int
	// ShiftRight means that the IDs are an encoder's, and that the decoder reads the labels shifted right by one, after
	// Start.
	ShiftRight bool
	Start, Pad int32
}

// Rows returns one row per label.
func (l Labelled) Rows(int) int { return l.Labels }

// Batch separates IDs and labels.
func (l Labelled) Batch(windows [][]int32) (ops.Batch, []int32) {
	var sources, decoders [][]int32
	var targets []int32
	var lens []int
	for _, w := range windows {
		ids, n := l.padded(w[:len(w)-l.Labels])
		labels := w[len(w)-l.Labels:]
		shifted, _ := l.padded(append([]int32{l.Start}, labels[:len(labels)-1]...))
		sources, decoders = append(sources, ids), append(decoders, shifted)
		lens, targets = append(lens, n), append(targets, labels...)
	}
	b := ops.NewBatch(sources...)
	b.Lens = lens
	if l.ShiftRight {
		source := b
		b = ops.NewBatch(decoders...)
		b.Source = &source
	}
	return b, targets
}

// padded replaces -1 by the padding token, and returns the number of IDs up to the last one that is not padding.
func (l Labelled) padded(ids []int32) (out []int32, n int) {
	out = make([]int32, len(ids))
	for i, id := range ids {
		out[i] = id
		if id < 0 {
			out[i] = l.Pad
		} else {
			n = i + 1
		}
	}
	return out, n
}
