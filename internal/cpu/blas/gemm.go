// Package blas holds operations on vectors and matrices of float32: elementwise ones and reductions, and matrix products, also with
// weights in 16 bits and with sums in float64. They compute on all threads unless their comments say otherwise.
//
// A function ending in Ref is the definition of the one without the suffix: the plain loop, in float64. The other equals it up to
// rounding. Matrices are row-major. No result depends on the number of threads: work is divided into blocks whose borders follow
// from the sizes alone, and sums over blocks are taken in a fixed order.
package blas

import (
	"sync"
	"sync/atomic"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// The blocking follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), with A and B
// exchanged: kc deep panels of both are packed, a block of B stays in the second-level cache, and goes by a panel of A.
const (
	kc = 512 // largest depth of a block of B
	nc = 512 // most columns of a block of B
	mc = 64  // panels of A packed at a time, where its columns lie side by side

	fewRows        = 16      // up to here B is not packed but read once
	fewRowsWork    = 1 << 16 // elements of B per task of a product of few rows
	fewRowsPart    = 1 << 16 // most elements of A that a product of few rows reads again and again: 256 KiB
	fewRowsColumns = 1 << 10 // columns of an untransposed B that a product of few rows takes at a time
	dotStrip       = 48      // rows of a transposed B that a product of few rows takes at a time
	smallWork      = 1 << 18 // multiplications up to which a product is not divided into tasks
)

// Gemm computes C[m,n] = alpha·op(A)[m,k]·op(B)[k,n] + beta·C. op(A) is A, stored [m,k] with rows lda apart, or if ta
// the transpose of A stored [k,m]; likewise op(B), stored [k,n], or [n,k] if tb. With beta 0, C is not read. Where matrix
// instructions compute it, an infinity in A or B gives NaN, and numbers below 1e-33 lose digits.
func Gemm(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	o := operands{m: m, n: n, k: k, alpha: alpha, a: a, b: b, ldb: ldb, tb: tb, c: c, ldc: ldc}
	o.ars, o.acs = strides(ta, lda)
	product(beta, o)
}

// product computes a product by what suits its size.
func product(beta float32, o operands) {
	if o.m <= 0 || o.n <= 0 {
		return
	}
	empty := o.k <= 0 || o.alpha == 0
	if empty || (beta != 0 && beta != 1) {
		scaleRows(o.c, o.ldc, o.m, o.n, beta)
	}
	if empty {
		return
	}
	g := gemms.Get().(*gemm)
	g.operands = o
	g.serial = products.Add(1)
	g.acc = beta != 0
	switch {
	case g.m <= fewRows && g.tb && g.acs == 1:
		pool.Run(g.n, fewRowsGrain(g.k), (*fewRowsNT)(g))
	case g.m <= fewRows/2 && !g.tb:
		pool.Run(g.n, fewRowsColumns, (*fewRowsNN)(g))
	case g.m*g.n*g.k <= smallWork:
		g.small()
	default:
		g.blocked()
	}
	g.release()
}

func (g *gemm) release() {
	g.operands = operands{}
	gemms.Put(g)
}

// operands are the arguments of Gemm, with A by its strides: op(A)[i,p] = a[i·ars+p·acs]. If acc, the product is added to C.
type operands struct {
	m, n, k  int
	alpha    float32
	a, b, c  []float32
	ars, acs int
	ldb, ldc int
	tb, acc  bool
	w        []uint16 // B instead of b, unless half is F32
	half     simd.Half
}

// gemm is one product and its scratch.
type gemm struct {
	operands
	packedA, packedB []float32 // of a small product; packedB also holds a part of B that is split for all threads
	// A task computes mb rows and nb columns of C, depth elements of the sums at a time.
	mb, nb, depth int
	// The part of B that is split for all threads: columns [j,jEnd), elements [p,pEnd) of the sums.
	j, jEnd, p, pEnd int
	parts, each      int            // depths of the sums in it; blocks of rows per thread
	done             []atomic.Int32 // for each block of rows: parts that C includes
	serial           uint64         // tells products apart
}

var (
	gemms    = sync.Pool{New: func() any { return new(gemm) }}
	products atomic.Uint64
)

// strides returns the distances between rows and between columns of op(A).
func strides(trans bool, ld int) (row, col int) {
	if trans {
		return 1, ld
	}
	return ld, 1
}

// scaleRows computes C *= beta, where 0 overwrites whatever C holds.
func scaleRows(c []float32, ldc, m, n int, beta float32) {
	for i := range m {
		row := c[i*ldc:][:n]
		if beta == 0 {
			clear(row)
		} else if beta != 1 {
			simd.Scale(row, beta)
		}
	}
}
