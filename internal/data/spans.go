package data

import (
	"math/rand/v2"
	"slices"

	"gqa/internal/ops"
)

// spanLength is the mean length of a masked span.
const spanLength = 3

// Spans is T5's objective (Raffel et al., arXiv 1910.10683, section 3.3.4): spans of 3 tokens on average, 15% of a
// window in total, are each replaced by one sentinel. The decoder predicts every sentinel followed by the tokens it
// replaces, then the end token. The choice of spans depends only on Seed and the window's tokens.
type Spans struct {
	Sentinels  []int32 // <extra_id_0>, <extra_id_1> …
	End        int32
	Start, Pad int32
	Seed       uint64
}

// counts returns the numbers of masked tokens and spans in a window.
func (s Spans) counts(window int) (masked, spans int) {
	masked = min(maskedCount(window), window-1)
	spans = max(1, (masked+spanLength/2)/spanLength)
	return masked, min(spans, len(s.Sentinels), window-masked)
}

// Rows returns one row for each masked token and each sentinel, and one for the end token.
func (s Spans) Rows(window int) int {
	masked, spans := s.counts(window)
	return masked + spans + 1
}

// Batch masks the spans. Windows of equal length result in sources of equal length and targets of equal length.
func (s Spans) Batch(windows [][]int32) (ops.Batch, []int32) {
	l := Labelled{Labels: s.Rows(len(windows[0])), ShiftRight: true, Start: s.Start, Pad: s.Pad}
	rows := make([][]int32, len(windows))
	for i, w := range windows {
		source, target := s.corrupt(w)
		rows[i] = append(source, target...)
	}
	return l.Batch(rows)
}

// corrupt returns a window with sentinels in place of spans, and the target. It begins with unmasked tokens.
func (s Spans) corrupt(w []int32) (source, target []int32) {
	r := draw(s.Seed, w)
	masked, spans := s.counts(len(w))
	kept, gone := parts(r, len(w)-masked, spans), parts(r, masked, spans)
	at := 0
	for i := range spans {
		source = append(append(source, w[at:at+kept[i]]...), s.Sentinels[i])
		at += kept[i]
		target = append(append(target, s.Sentinels[i]), w[at:at+gone[i]]...)
		at += gone[i]
	}
	return append(source, s.End), append(target, s.End)
}

// parts splits n into count parts of 1 or more, uniformly at random.
func parts(r *rand.Rand, n, count int) []int {
	cuts := append(r.Perm(n - 1)[:count-1], -1, n-1)
	slices.Sort(cuts)
	sizes := make([]int, count)
	for i := range sizes {
		sizes[i] = cuts[i+1] - cuts[i]
	}
	return sizes
}
