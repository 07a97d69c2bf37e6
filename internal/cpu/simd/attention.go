package simd

import "math/bits"

// MaxLanes is a multiple of the float32 lanes of a register on every path, and the most of any.
const MaxLanes = 16

// Lanes holds a number per lane of a register. With a power of two of rows of queries, lane g·rows+r belongs to row r.
type Lanes [MaxLanes]float32

// AttentionKernels compute the attention of one query per sequence, with the query heads of a group as rows in the lanes of a
// register: keys and values are read in memory order, no softmax crosses lanes, and memory is prefetched a little ahead.
type AttentionKernels struct {
	Width int                           // lanes of a register
	Tiles []AttentionTile               // by the logarithm of the rows, of which there are at most Width
	Max   func(s []float32, top *Lanes) // top = max(top, s), lane by lane
	// Exp computes s = exp(s - top) and sum += s, lane by lane. It prefetches two lines per register.
	Exp func(s []float32, top, sum *Lanes, next Prefetch)
}

// AttentionTile holds the products for a number of rows.
type AttentionTile struct {
	Rows, C int
	// Score computes s[j·Rows+r] = Σ_x Q[r,x]·k[j·ldk+x] for n keys j, a multiple of the width, and d elements x. Q is stored
	// as q[p·Rows·C+r·C+t] = Q[r,p·C+t].
	Score func(n, d int, q, k []float32, ldk int, s []float32, next Prefetch)
	// SumValues computes o[r·ldo+x] += Σ_j p[j·ldp+r]·v[j·ldv+x] for H rows r, W elements x and n keys j.
	SumValues func(n int, p []float32, ldp int, v []float32, ldv int, o []float32, ldo int, next Prefetch)
	H, W      int
	// ScoreHalf and SumValuesHalf are the same for keys and values in the format h, by lines of them; nil where they have to be
	// converted first.
	ScoreHalf     func(h Half, n, d int, q []float32, k []uint16, ldk int, s []float32, next Prefetch)
	SumValuesHalf func(h Half, n int, p []float32, ldp int, v []uint16, ldv int, o []float32, ldo int, next Prefetch)
	// ScorePairs is Score for keys in bfloat16 and d a multiple of twice the width; nil where there is none. Each element of the
	// queries is split into two bfloat16: a step takes MaxLanes pairs of the upper parts, c of every row, then those of the lower.
	ScorePairs func(n, d int, q []float32, k []uint16, ldk int, s []float32, next Prefetch)
	// ScoreInts and SumValuesInts are Score and SumValues for keys and values in the format f, with a scale each; ldk and ldv are in
	// bytes, and d is a multiple of IntsStep. They are nil where integers have to be converted first. I4Converted says that those of
	// I4 have to be in any case.
	I4Converted   bool
	ScoreInts     func(f Ints, n, d int, q []float32, k []byte, ldk int, scales, s []float32, next Prefetch)
	SumValuesInts func(f Ints, n int, p []float32, ldp int, v []byte, ldv int, scales, o []float32, ldo int, next Prefetch)
	// ScoreQuads is ScoreInts by instructions that multiply four bytes, for d a multiple of QuadElements; nil where there is none. Each
	// element of the queries is 128 times an upper part and a lower part, integers, times the scale of its row. Queries begin with
	// QuadHeader numbers, three for each lane: what the sums of either part begin with, as integers, and the scale of the row that the
	// lane has in the end. A step takes MaxLanes quads of bytes of the upper parts, C of every row, then those of the lower; in I4
	// those that meet the lower halves of bytes of keys, then those that meet the upper halves.
	ScoreQuads func(f Ints, n, d int, q []float32, k []byte, ldk int, scales, s []float32, next Prefetch)
	I4Quads    bool // ScoreQuads takes I4, too
	// ScoreStep and SumValuesStep are the elements from one prefetch to the next.
	ScoreStep, SumValuesStep int
}

// Tile returns the tile for a number of rows.
func (l *AttentionKernels) Tile(rows int) *AttentionTile { return &l.Tiles[bits.Len(uint(rows-1))] }

// Ahead returns how many elements before they are read keys or values in the format h should be prefetched. Where nearly all of
// the work is waiting for memory that is a page's worth, as the hardware prefetcher goes on from there, or none if the hardware
// prefetcher is best left alone: only what is being read is prefetched then. For two rows and 16 bits that is so only if ScorePairs
// computes the scores.
func (t *AttentionTile) Ahead(h Half) int {
	switch memoryBound := t.Rows == 1 || t.Rows == 2 && (h == F32 || h == BF16 && t.ScorePairs != nil); {
	case memoryBound && hardwarePrefetch:
		return 0
	case t.Rows <= 2 && h == F32:
		return 1 << 10
	default:
		return 1 << 12
	}
}

// AheadInts is Ahead for integers.
func (t *AttentionTile) AheadInts() int { return t.Ahead(BF16) }

// See AttentionTile.ScoreQuads.
const (
	QuadElements = 64
	QuadHeader   = 3 * MaxLanes
)
