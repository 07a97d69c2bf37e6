package kernels

import "math/bits"

// maxLanes is the most lanes of any path.
const maxLanes = 16

// lanes holds a number per lane of a register. Of rows of queries, a power of two, lane g·rows+r belongs to row r.
type lanes [maxLanes]float32

// lanePath is attention of one query per sequence, with the query heads of a group as rows in the lanes of a register:
// keys and values are read as they lie, from end to end, no softmax crosses lanes, and memory is asked for a little ahead.
type lanePath struct {
	width int
	tiles []laneTile                    // by the logarithm of the rows, of which there are at most width
	max   func(s []float32, top *lanes) // top = max(top, s), lane by lane
	// exp is s = exp(s - top), sum += s, lane by lane. It asks for two lines per register.
	exp func(s []float32, top, sum *lanes, next lookahead)
}

// laneTile holds the products for a number of rows.
type laneTile struct {
	rows, c int
	// score is s[j·rows+r] = Σ_x Q[r,x]·k[j·ldk+x] for n keys j, a multiple of the width, and d elements x. Q is stored as
	// q[p·rows·c+r·c+t] = Q[r,p·c+t].
	score func(n, d int, q, k []float32, ldk int, s []float32, next lookahead)
	// sumValues is o[r·ldo+x] += Σ_j p[j·ldp+r]·v[j·ldv+x] for h rows r, w elements x and n keys j.
	sumValues func(n int, p []float32, ldp int, v []float32, ldv int, o []float32, ldo int, next lookahead)
	h, w      int
	// scoreHalf and sumValuesHalf are the same for keys and values in the format h, by lines of them; nil where they are converted
	// before.
	scoreHalf     func(h Half, n, d int, q []float32, k []uint16, ldk int, s []float32, next lookahead)
	sumValuesHalf func(h Half, n int, p []float32, ldp int, v []uint16, ldv int, o []float32, ldo int, next lookahead)
	// scorePairs is score for keys of bfloat16 and d a multiple of twice the width, with queries split in two as packPairs leaves
	// them; nil where there is none.
	scorePairs func(n, d int, q []float32, k []uint16, ldk int, s []float32, next lookahead)
	// scoreStep and sumValuesStep are the elements from one prefetch to the next.
	scoreStep, sumValuesStep int
}

func (l *lanePath) tile(rows int) *laneTile { return &l.tiles[bits.Len(uint(rows-1))] }

// soon is how many elements ahead of what it reads of keys or values in a format a tile asks for. Where memory is nearly all of the
// work that is a page's worth, as the processor's own prefetching goes on from there, or none where that is best left alone: only
// what is being read is asked for then. Two rows of 16 bits are so little work only if scores are by pairs.
func (t *laneTile) soon(h Half) int {
	switch little := t.rows == 1 || t.rows == 2 && (h == F32 || h == BF16 && t.scorePairs != nil); {
	case little && ownPrefetch:
		return 0
	case t.rows <= 2 && h == F32:
		return 1 << 10
	default:
		return 1 << 12
	}
}
