package data

import (
	"gqa/internal/ops"
)

// Objective turns windows of a stream into what a forward pass reads and is to predict.
type Objective interface {
	// Batch lays out windows of equal length, and gives the target of every row of the result, -1 for none.
	Batch(windows [][]int32) (b ops.Batch, targets []int32)
	// Rows is how many rows of the result a window of that many ids has.
	Rows(window int) int
}

// NextToken predicts each token of a window but the first from those before it.
type NextToken struct{}

// Rows is a row for each token.
func (NextToken) Rows(window int) int { return window }

// Batch has the token after each as its target, and none for a window's last.
func (NextToken) Batch(windows [][]int32) (ops.Batch, []int32) {
	targets := make([]int32, 0, len(windows)*len(windows[0]))
	for _, w := range windows {
		targets = append(append(targets, w[1:]...), -1)
	}
	return ops.NewBatch(windows...), targets
}

// Labelled windows are ids, -1 where they are padding, and behind them Labels labels, -1 where there is nothing to predict.
type Labelled struct {
	Labels int
	// ShiftRight says that the ids are an encoder's, and that the decoder reads the labels shifted by one, behind Start.
	ShiftRight bool
	Start, Pad int32
}

// Rows is a row for each label.
func (l Labelled) Rows(int) int { return l.Labels }

// Batch takes ids and labels apart.
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

// padded replaces -1 by the padding token, and counts the ids up to the last that is none.
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
