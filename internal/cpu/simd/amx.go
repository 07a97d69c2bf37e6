package simd

// AMXKernels multiply matrices of bfloat16 by matrix instructions (AMX). Their float32 factor is split into three bfloat16 of 8
// bits each that sum up to it, so products are exact, and sums as precise as those of float32. Subnormal numbers count as zero,
// and an infinity that is split gives NaN.
type AMXKernels struct {
	// split writes src, a multiple of 16 long, as three rows of bfloat16 that are plane float32 apart.
	split func(dst []float32, plane int, src []float32)
	// Prefetch prefetches the first n lines of next.
	Prefetch func(n int, next Prefetch)
	// Dots computes c[j·m+r] = Σ_p w[j·ldw+p]·x[r,p] for n rows j of w, a multiple of AMXRows, m <= AMXRows rows r and k
	// elements p, a multiple of AMXDepth. x is as SplitRows leaves it. ldw is AMXPacked for a packed w: blocks of AMXRowBlock
	// rows (the last ones of AMXRows), in them steps of AMXDepth columns, in them the tiles. next is prefetched as fast as w is
	// read.
	Dots func(n, k, m int, w []uint16, ldw int, x, c []float32, next Prefetch)
	// Attend computes the attention of 8 or 16 rows of queries to groups of AMXDepth keys, with k and v in bfloat16 and d
	// elements, a multiple of AMXColumns. The scores of the first group are in t. It stops before a group with a score above
	// t.Limit, and returns how many groups are left: the scores of the next are in t. The columns of o are in the order that
	// Unshuffle undoes.
	Attend func(t *AMXAttention, rows, d, groups int, k []uint16, ldk int, v []uint16, ldv int, top, sum *Lanes, o []float32) (left int)

	// Panels computes C[AMXBlock,panels·AMXBlock] = A·B, or C += A·B if acc, for a panel of A and a number of consecutive panels
	// of B, each of so many steps of AMXBlock elements.
	Panels func(panels, steps int, a, b, c []float32, ldc int, acc bool)
	// PackRow splits steps of a row of A into a panel in which the row begins at dst, and prefetches what is ahead elements
	// behind src.
	PackRow func(steps int, src, dst []float32, ahead int)
	// PackPairs splits alpha times steps of the columns of one panel of B.
	PackPairs func(steps int, src []float32, ld int, alpha float32, dst []float32)
}

// Sizes of what AMXKernels compute.
const (
	AMXRows     = 16 // rows of a tile
	AMXDepth    = 32 // elements that a product of two tiles sums
	AMXColumns  = 64 // columns that Attend takes at a time
	AMXRowBlock = 64 // rows that Dots takes at a time, if there are as many
	AMXPacked   = 0  // stride of a packed matrix

	AMXBlock       = 32              // rows of A and columns of B that Panels multiplies at a time, and elements of a step
	AMXBlockFloats = 3 * 32 * 32 / 2 // float32 that a step of a panel takes when split
	AMXLine        = 16              // float32 that a row of a tile takes
)

// AMXAttention is the state of AMXKernels.Attend.
type AMXAttention struct {
	Q     []float32    // queries, split
	S     [2][]float32 // scores of the current group of keys and, as they are computed, of the next [AMXDepth, rows]
	turn  int          // which of S is current
	P     []float32    // weights of a group, split
	Pairs []float32    // values of a group, interleaved by pairs of keys
	Limit Lanes        // of scores
}

// Scores returns the scores of the current group of keys.
func (t *AMXAttention) Scores() []float32 { return t.S[t.turn] }

// SplitRows splits elements [lo,hi) of m rows of k elements into what Dots reads: three planes of pairs of elements [k/2,m].
func (t *AMXKernels) SplitRows(m, k, lo, hi int, x []float32, ldx int, dst, scratch []float32) {
	half, at, n := k/2, lo/2, (hi-lo)/2
	for r := range m {
		t.split(scratch[r*half+at:], m*half, x[r*ldx+lo:][:hi-lo])
	}
	for plane := range 3 {
		kern.gemm.PackT(dst[(plane*half+at)*m:], scratch[plane*m*half+at:], half, m, n, m)
	}
}

// Unshuffle puts the columns of a row that AMXKernels.Attend has computed in order.
func Unshuffle(row []float32) {
	var from [32]float32
	for ; len(row) > 0; row = row[32:] {
		copy(from[:], row)
		for i := range 4 {
			*(*[4]float32)(row[8*i:]) = [4]float32(from[4*i:])
			*(*[4]float32)(row[8*i+4:]) = [4]float32(from[16+4*i:])
		}
	}
}
