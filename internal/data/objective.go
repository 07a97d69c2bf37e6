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

// NextToken predicts each token of a window, except the first, from those before it.
type NextToken struct{}

// Rows returns one row per token.
func (NextToken) Rows(window int) int { return window }

// Batch returns the next token as the target of each token, and no target for the last token of a window.
func (NextToken) Batch(windows [][]int32) (ops.Batch, []int32) {
	targets := make([]int32, 0, len(windows)*len(windows[0]))
	for _, w := range windows {
		targets = append(append(targets, w[1:]...), -1)
	}
	return ops.NewBatch(windows...), targets
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
