package kernels

// tilePath multiplies bfloat16 by matrix instructions. Their other factor is bfloat16 too: a float32 is split into three, of
// 8 bits each, that sum up to it, so products are exact and sums as precise as those of float32. Subnormal numbers count as
// zero, and an infinity that is split gives NaN.
type tilePath struct {
	// split writes src, a multiple of 16 long, as three rows of bfloat16 so many float32 apart.
	split func(dst []float32, plane int, src []float32)
	// ask asks for the first n lines of next.
	ask func(n int, next lookahead)
	// dots is c[j·m+r] = Σ_p w[j·ldw+p]·x[r,p] for n rows j of w, a multiple of tileSize, m <= tileSize rows r and k elements
	// p, a multiple of tileDepth. x is split, in pairs of elements: three planes [k/2,m]. ldw is packedRows for a w that
	// PackHalf has packed. next is asked for as fast as w is read.
	dots func(n, k, m int, w []uint16, ldw int, x, c []float32, next lookahead)
	// attend is attention of so many rows, 8 or 16, to groups of tileDepth keys, with k and v in bfloat16 and d elements, a
	// multiple of tileColumns. The scores of the first group are in t. It stops before a group with a score above t.limit, and
	// returns how many are left: the scores of the next are in t. The columns of o are in the order that unshuffle undoes.
	attend func(t *tileState, rows, d, groups int, k []uint16, ldk int, v []uint16, ldv int, top, sum *lanes, o []float32) (left int)

	// panels is C[blockSize,panels·blockSize] = A·B, or C += if acc, for a panel of A and as many of B one after another, each
	// of so many steps of blockSize elements. packRow splits a row of A, which begins at dst, and packPairs alpha times the
	// columns of one panel of B, for so many steps.
	panels    func(panels, steps int, a, b, c []float32, ldc int, acc bool)
	packRow   func(steps int, src, dst []float32, ahead int)
	packPairs func(steps int, src []float32, ld int, alpha float32, dst []float32)
}

const (
	tileSize    = 16 // rows of a tile
	tileDepth   = 32 // elements that one product of tiles sums
	tileColumns = 64 // columns that attend takes at a time
	tileBlock   = 64 // rows that dots takes at a time, if there are as many
	packedRows  = 0

	blockSize  = 32              // rows of A and columns of B that panels multiplies at a time, elements in a step of the sums
	blockFloat = 3 * 32 * 32 / 2 // float32 that a step of a panel takes when split
	tileLine   = 16              // float32 that a row of a tile takes
)

// tileState is what attend computes with.
type tileState struct {
	q     []float32    // queries, split
	s     [2][]float32 // scores of the group of keys in work and, as they are computed, of the next [tileDepth, rows]
	turn  int          // which of s is in work
	p     []float32    // weights of a group, split
	pairs []float32    // values of a group, two keys beside each other
	limit lanes        // of scores
}

// scores returns the scores of the group in work.
func (t *tileState) scores() []float32 { return t.s[t.turn] }

// splitRows splits elements [lo,hi) of m rows of k into the planes that tilePath.dots reads.
func (t *tilePath) splitRows(m, k, lo, hi int, x []float32, ldx int, dst, scratch []float32) {
	half, at, n := k/2, lo/2, (hi-lo)/2
	for r := range m {
		t.split(scratch[r*half+at:], m*half, x[r*ldx+lo:][:hi-lo])
	}
	for plane := range 3 {
		kern.packT(dst[(plane*half+at)*m:], scratch[plane*m*half+at:], half, m, n, m)
	}
}

// unshuffle puts the columns of a row that attend has left in order.
func unshuffle(row []float32) {
	var from [32]float32
	for ; len(row) > 0; row = row[32:] {
		copy(from[:], row)
		for i := range 4 {
			*(*[4]float32)(row[8*i:]) = [4]float32(from[4*i:])
			*(*[4]float32)(row[8*i+4:]) = [4]float32(from[16+4*i:])
		}
	}
}
