package blas

import (
	"sync"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/simd"
)

// GemmNTHalf computes y[m,n] = x[m,k]·W[n,k]ᵀ + beta·y for weights in the format h, BF16 or F16: the result is that of Gemm
// for the same weights in float32, bit by bit unless there are matrix instructions for them. Rows are ldx, ldw and ldy
// apart. Weights are converted in registers, or a few rows at a time in the cache, so that only 2 bytes of each are read from
// memory.
func GemmNTHalf(h simd.Half, m, n, k int, x []float32, ldx int, w []uint16, ldw int, beta float32, y []float32, ldy int) {
	if done := gemmNTAMX(h, m, n, k, x, ldx, w, ldw, beta, y, ldy); done > 0 {
		if done == n {
			return
		}
		n, w, y = n-done, w[done*ldw:], y[done:]
	}
	product(beta, operands{
		m: m, n: n, k: k, alpha: 1, a: x, ars: ldx, acs: 1, w: w, half: h, ldb: ldw, tb: true, c: y, ldc: ldy,
	})
}

// buffers is scratch for parts of products.
var buffers = sync.Pool{New: func() any { return new([]float32) }}

// halfRows is how many rows of weights a product of few rows converts at a time, if not in registers.
const halfRows = 4

// halfBlock computes the part [p,p+k) of the sums of fewRowsNT.
func (g *fewRowsNT) halfBlock(lo, hi, p, k int, a dotOperand) {
	acc := g.acc || p > 0
	if simd.Gemm().HalfDots != nil && k%simd.MaxLanes == 0 {
		whole := (hi - lo) / halfRows * halfRows
		a.timesHalf(g.half, whole, p, k, g.w[lo*g.ldb+p:], g.ldb, g.c[lo:], g.ldc, acc)
		lo += whole
	}
	buffer := buffers.Get().(*[]float32)
	*buffer = memory.Grow(*buffer, halfRows*k)
	for j := lo; j < hi; j += halfRows {
		n := min(halfRows, hi-j)
		g.half.DecodeRows(*buffer, g.w[j*g.ldb+p:], g.ldb, n, k)
		a.times(n, p, k, 1, *buffer, k, g.c[j:], g.ldc, acc)
	}
	buffers.Put(buffer)
}

// timesHalf is times, with alpha 1, for a B in the format h, n a multiple of halfRows and k one of MaxLanes.
func (a *dotOperand) timesHalf(h simd.Half, n, p, k int, b []uint16, ldb int, c []float32, ldc int, acc bool) {
	for j := 0; j < n; j += dotStrip {
		b, n := b[j*ldb:], min(dotStrip, n-j)
		if a.packed == nil {
			for i := 0; i < a.m; i += simd.DotsRows {
				simd.Gemm().HalfDots(h, min(simd.DotsRows, a.m-i), n, k, a.x[i*a.ld+p:], a.ld, b, ldb, c[i*ldc+j:], ldc, acc)
			}
			continue
		}
		a.eachGroup(p, k, func(i, m int, x []float32) {
			simd.Gemm().HalfDotsPacked(h, m, n, k, x, b, ldb, c[i*ldc+j:], ldc, acc)
		})
	}
}

// packHalf packs columns [j,j+n) of weights in the format g.half into one panel of w columns.
func (g *gemm) packHalf(dst []float32, p, k, j, n, w int) {
	buffer := buffers.Get().(*[]float32)
	*buffer = memory.Grow(*buffer, n*k)
	g.half.DecodeRows(*buffer, g.w[j*g.ldb+p:], g.ldb, n, k)
	simd.Gemm().PackT(dst, *buffer, k, n, k, w)
	buffers.Put(buffer)
}
