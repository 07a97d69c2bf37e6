package kernels

// GemmNTHalf computes y[m,n] = x[m,k]·W[n,k]ᵀ + beta·y for weights in the format h, BF16 or F16: the result is that of Gemm
// for the same weights in float32, bit by bit. Rows lie ldx, ldw and ldy apart. Weights are converted a few rows at a time
// in the first-level cache, so only their 2 bytes each come from memory.
func GemmNTHalf(h Half, m, n, k int, x []float32, ldx int, w []uint16, ldw int, beta float32, y []float32, ldy int) {
	product(beta, operands{
		m: m, n: n, k: k, alpha: 1, a: x, ars: ldx, acs: 1, w: w, half: h, ldb: ldw, tb: true, c: y, ldc: ldy,
	})
}

// halfRows is how many rows of weights a skinny product converts at a time.
const halfRows = 4

// halfBlock is the part [p,p+k) of the depth of skinnyNT.
func (g *skinnyNT) halfBlock(lo, hi, p, k int) {
	buffer := buffers.Get().(*[]float32)
	rows := grown(*buffer, halfRows*k)
	for j := lo; j < hi; j += halfRows {
		n := min(halfRows, hi-j)
		g.half.widenRows(rows, g.w[j*g.ldb+p:], g.ldb, n, k)
		dotRows(g.m, n, k, 1, g.a[p:], g.ars, rows, k, g.c[j:], g.ldc, g.acc || p > 0)
	}
	*buffer = rows
	buffers.Put(buffer)
}

// packHalf is packB for columns [j,j+w) of weights in the format g.half.
func (g *gemm) packHalf(dst []float32, p, k, j, w int) {
	buffer := buffers.Get().(*[]float32)
	rows := grown(*buffer, w*k)
	g.half.widenRows(rows, g.w[j*g.ldb+p:], g.ldb, w, k)
	kern.packT(dst, rows, k, w, k, kern.nr)
	*buffer = rows
	buffers.Put(buffer)
}
