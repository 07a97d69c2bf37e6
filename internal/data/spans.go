package data

import (
	"math/rand/v2"
	"slices"

	"gqa/internal/ops"
)

// spanLength is the mean length of a hidden span.
const spanLength = 3

// Spans is T5's objective (Raffel et al., arXiv 1910.10683, section 3.3.4): spans of 3 tokens on average, 15% of a window in
// all, each become one sentinel, and the decoder predicts every sentinel followed by what it hides, then the end. Where the
// spans lie depends on Seed and the window's tokens alone.
type Spans struct {
	Sentinels  []int32 // <extra_id_0>, <extra_id_1> …
	End        int32
	Start, Pad int32
	Seed       uint64
}

// counts are the tokens and spans hidden in a window.
func (s Spans) counts(window int) (hidden, spans int) {
	hidden = min(noisy(window), window-1)
	spans = max(1, (hidden+spanLength/2)/spanLength)
	return hidden, min(spans, len(s.Sentinels), window-hidden)
}

// Rows is a row for each token hidden, each sentinel and the end.
func (s Spans) Rows(window int) int {
	hidden, spans := s.counts(window)
	return hidden + spans + 1
}

// Batch takes the spans out: every window of one length gives a source and targets of one length.
func (s Spans) Batch(windows [][]int32) (ops.Batch, []int32) {
	l := Labelled{Labels: s.Rows(len(windows[0])), ShiftRight: true, Start: s.Start, Pad: s.Pad}
	rows := make([][]int32, len(windows))
	for i, w := range windows {
		source, target := s.corrupt(w)
		rows[i] = append(source, target...)
	}
	return l.Batch(rows)
}

// corrupt is a window with sentinels in place of spans, and what they stand for. It begins with tokens that stay.
func (s Spans) corrupt(w []int32) (source, target []int32) {
	r := draw(s.Seed, w)
	hidden, spans := s.counts(len(w))
	kept, gone := parts(r, len(w)-hidden, spans), parts(r, hidden, spans)
	at := 0
	for i := range spans {
		source = append(append(source, w[at:at+kept[i]]...), s.Sentinels[i])
		at += kept[i]
		target = append(append(target, s.Sentinels[i]), w[at:at+gone[i]]...)
		at += gone[i]
	}
	return append(source, s.End), append(target, s.End)
}

// parts cuts n into count parts of 1 or more, every way as likely.
func parts(r *rand.Rand, n, count int) []int {
	cuts := append(r.Perm(n - 1)[:count-1], -1, n-1)
	slices.Sort(cuts)
	sizes := make([]int, count)
	for i := range sizes {
		sizes[i] = cuts[i+1] - cuts[i]
	}
	return sizes
}
