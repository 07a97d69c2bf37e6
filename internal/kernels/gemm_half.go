package kernels

// GemmNTHalf computes y[m,n] = x[m,k]·W[n,k]ᵀ + beta·y for weights in the format h, BF16 or F16: the result is that of Gemm
// for the same weights in float32, bit by bit unless there are matrix instructions for them. Rows lie ldx, ldw and ldy
// apart. Weights are converted in registers, or a few rows at a time in the cache, so only their 2 bytes each come from
// memory.
func GemmNTHalf(h Half, m, n, k int, x []float32, ldx int, w []uint16, ldw int, beta float32, y []float32, ldy int) {
	if done := tileGemmNT(h, m, n, k, x, ldx, w, ldw, beta, y, ldy); done > 0 {
		if done == n {
			return
		}
		n, w, y = n-done, w[done*ldw:], y[done:]
	}
	product(beta, operands{
		m: m, n: n, k: k, alpha: 1, a: x, ars: ldx, acs: 1, w: w, half: h, ldb: ldw, tb: true, c: y, ldc: ldy,
	})
}

// halfRows is how many rows of weights a skinny product converts at a time, if not in registers.
const halfRows = 4

// halfBlock is the part [p,p+k) of the depth of skinnyNT.
func (g *skinnyNT) halfBlock(lo, hi, p, k int) {
	x, acc := g.a[p:], g.acc || p > 0
	if kern.halfDots != nil && k%halfLanes == 0 {
		whole := (hi - lo) / halfRows * halfRows
		halfDotRows(g.half, g.m, whole, k, x, g.ars, g.w[lo*g.ldb+p:], g.ldb, g.c[lo:], g.ldc, acc)
		lo += whole
	}
	buffer := buffers.Get().(*[]float32)
	*buffer = grown(*buffer, halfRows*k)
	for j := lo; j < hi; j += halfRows {
		n := min(halfRows, hi-j)
		g.half.widenRows(*buffer, g.w[j*g.ldb+p:], g.ldb, n, k)
		dotRows(g.m, n, k, 1, x, g.ars, *buffer, k, g.c[j:], g.ldc, acc)
	}
	buffers.Put(buffer)
}

// halfDotRows is dotRows, with alpha 1, for a B in the format h, n a multiple of halfRows and k one of halfLanes.
func halfDotRows(h Half, m, n, k int, a []float32, lda int, b []uint16, ldb int, c []float32, ldc int, acc bool) {
	dots, rows := kern.halfDots, 4
	if kern.halfPairs != nil && m > 4 {
		dots, rows = kern.halfPairs, evenly(m, 8, 1)
	}
	for j := 0; j < n; j += dotStrip {
		for i := 0; i < m; i += rows {
			dots(h, min(rows, m-i), min(dotStrip, n-j), k, a[i*lda:], lda, b[j*ldb:], ldb, c[i*ldc+j:], ldc, acc)
		}
	}
}

// packHalf packs columns [j,j+n) of weights in the format g.half into one panel of w columns.
func (g *gemm) packHalf(dst []float32, p, k, j, n, w int) {
	buffer := buffers.Get().(*[]float32)
	*buffer = grown(*buffer, n*k)
	g.half.widenRows(*buffer, g.w[j*g.ldb+p:], g.ldb, n, k)
	kern.packT(dst, *buffer, k, n, k, w)
	buffers.Put(buffer)
}
