package nn

import (
	"math"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/simd"
)

// Keys of bfloat16 by instructions that multiply pairs of them (AVX512_BF16): 32 multiply-adds in the time of 16 of float32. Queries
// are split into two bfloat16 that together keep at least 17 of their bits; the keys have 8. There are as many instructions as with
// float32, but keys need no conversion, which takes half of the time. (Sums of values do not gain: conversions hide behind their
// multiply-adds, and the weights would have to be split.)

// usesPairs reports whether scores are computed by pairs.
func (f *forward) usesPairs(l *laneWork) bool {
	return l.ScorePairs != nil && f.k.Format == simd.BF16 && f.HeadDim%(2*simd.MaxLanes) == 0
}

// packPairs puts the queries in the order of ScorePairs: for each step c pairs of elements of every row, their upper parts, then
// their lower parts. (c is that of a register of pairs, not the tile's C.)
func (f *forward) packPairs(w *work) {
	d, l := f.HeadDim, &w.lanes
	c := simd.MaxLanes / l.Rows
	l.q = memory.Grow(l.q, l.Rows*d)
	clear(l.q)
	for r := range w.rows {
		row, to := w.q[r*d:][:d], l.q[r*c:]
		for len(row) > 0 {
			for t := range c {
				upper0, lower0 := splitBF16(row[2*t])
				upper1, lower1 := splitBF16(row[2*t+1])
				to[t], to[simd.MaxLanes+t] = pair(upper0, upper1), pair(lower0, lower1)
			}
			row, to = row[2*c:], to[min(2*simd.MaxLanes, len(to)):]
		}
	}
}

// splitBF16 returns two bfloat16 whose sum differs from x by at most 2^-17 of it, if both are normal numbers: products of pairs take
// others as zero.
func splitBF16(x float32) (upper, lower uint16) {
	upper = simd.RoundBF16(x)
	return upper, simd.RoundBF16(x - math.Float32frombits(uint32(upper)<<16))
}

// pair returns two bfloat16 as the bits of one float32.
func pair(first, second uint16) float32 {
	return math.Float32frombits(uint32(first) | uint32(second)<<16)
}

// scorePairs is scoreLanes by pairs.
func (f *forward) scorePairs(w *work, j, n int) {
	const width = simd.MaxLanes
	d, l := f.HeadDim, &w.lanes
	k, next := f.k.Half[f.k.index(w.b, w.kv, j):], f.k.ahead(w.b, w.kv, j, d)
	whole := n / width * width
	if whole > 0 {
		l.ScorePairs(whole, d, l.q, k, f.k.Row, w.s, next.At(l.Ahead(simd.BF16), 2*simd.MaxLanes))
	}
	if whole == n {
		return
	}
	l.lastHalf = memory.Grow(l.lastHalf, width*d)
	pad(l.lastHalf, d, k[whole*f.k.Row:], f.k.Row, n-whole)
	l.ScorePairs(width, d, l.q, l.lastHalf, d, w.s[whole*l.Rows:], simd.Prefetch{Base: next.Base})
	fill(w.s[n*l.Rows:(whole+width)*l.Rows], float32(math.Inf(-1)))
}
