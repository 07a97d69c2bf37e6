package blas

import (
	"sync"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// A product of few rows is bound by reading B from memory, so B is read once, without packing.

// fewRowsGrain returns how many of B's columns (rows of k elements if transposed) make a task: few, because at the end of a product
// the other threads wait for the last task.
func fewRowsGrain(k int) int { return pool.RoundUp(max(1, fewRowsWork/2/k), dotStrip) }

// fewRowsNT is C = alpha·A·Bᵀ for few rows of A.
type fewRowsNT gemm

func (g *fewRowsNT) Release() { (*gemm)(g).release() }

func (g *fewRowsNT) Block(lo, hi int) {
	a := dotOperand{x: g.a, ld: g.ars, m: g.m, k: g.k}
	if simd.Gemm().DotsPacked != nil && g.m > simd.DotsRows {
		p := packs.Get().(*heldRows)
		defer packs.Put(p)
		p.hold(g)
		a.packed = p.x
	}
	depth := pool.Evenly(g.k, fewRowsPart/g.m, 64)
	for p := 0; p < g.k; p += depth {
		k := min(depth, g.k-p)
		if g.half != simd.F32 {
			g.halfBlock(lo, hi, p, k, a)
			continue
		}
		a.times(hi-lo, p, k, g.alpha, g.b[lo*g.ldb+p:], g.ldb, g.c[lo:], g.ldc, g.acc || p > 0)
	}
}

// dotOperand is A [m,k], few rows, in a product with B transposed.
type dotOperand struct {
	x      []float32 // rows ld apart
	ld     int
	m, k   int
	packed []float32 // by packRows, or nil
}

// packedGroup is the most rows that are packed together.
const packedGroup = 8

// packRows packs rows of A in groups of up to packedGroup: MaxLanes elements of each row of a group, then the next of each, with
// zeros at the end. A product then reads them in memory order: rows that are a power of two apart compete for a few lines of the
// first-level cache.
func packRows(dst, a []float32, lda, m, k int) []float32 {
	const w = simd.MaxLanes
	whole := pool.RoundUp(k, w)
	dst = memory.Grow(dst, m*whole)
	group := pool.Evenly(m, packedGroup, 1)
	for i := range m {
		first := i / group * group
		rows := min(group, m-first)
		to := dst[first*whole+i%group*w:]
		for p := 0; p < k; p += w {
			n := copy(to[:w], a[i*lda+p:i*lda+min(p+w, k)])
			clear(to[n:w])
			to = to[min(rows*w, len(to)):]
		}
	}
	return dst
}

// heldRows holds packed rows of A.
type heldRows struct {
	serial uint64 // of their product
	x      []float32
}

var packs = sync.Pool{New: func() any { return new(heldRows) }}

// hold packs the rows of a product unless it holds them already.
func (p *heldRows) hold(g *fewRowsNT) {
	if p.serial != g.serial {
		p.x = packRows(p.x, g.a, g.ars, g.m, g.k)
		p.serial = g.serial
	}
}

// times computes C[m,n] = alpha·A·Bᵀ, or C += alpha·A·Bᵀ if acc, for elements [p,p+k) of the rows of A, p a multiple of MaxLanes, and
// B [n,k]. It takes a strip of rows of B at a time: they are read from memory once, and from the cache for further rows of A.
func (a *dotOperand) times(n, p, k int, alpha float32, b []float32, ldb int, c []float32, ldc int, acc bool) {
	if a.packed == nil {
		MultiplyNT(a.m, n, k, alpha, a.x[p:], a.ld, b, ldb, c, ldc, acc)
		return
	}
	whole := n / 2 * 2
	for j := 0; j < whole; j += dotStrip {
		a.eachGroup(p, k, func(i, m int, x []float32) {
			simd.Gemm().DotsPacked(m, min(dotStrip, whole-j), k, alpha, x, b[j*ldb:], ldb, c[i*ldc+j:], ldc, acc)
		})
	}
	if whole < n {
		dotEdge(a.m, n-whole, k, alpha, a.x[p:], a.ld, b[whole*ldb:], ldb, c[whole:], ldc, acc)
	}
}

// eachGroup calls f for the rows of A that are packed together, from i on, with their elements [p,p+k).
func (a *dotOperand) eachGroup(p, k int, f func(i, m int, x []float32)) {
	group, whole := pool.Evenly(a.m, packedGroup, 1), pool.RoundUp(a.k, simd.MaxLanes)
	for i := 0; i < a.m; i += group {
		m := min(group, a.m-i)
		f(i, m, a.packed[i*whole+p*m:][:m*pool.RoundUp(k, simd.MaxLanes)])
	}
}

// MultiplyNT computes C[m,n] = alpha·A·Bᵀ, or C += alpha·A·Bᵀ if acc, with A [m,k] and B [n,k], on the calling thread and without
// packing: it suits few rows of A.
func MultiplyNT(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	const h, w = simd.DotsRows, 4
	whole := n / w * w
	for j := 0; j < whole; j += dotStrip {
		for i := 0; i < m; i += h {
			simd.Gemm().Dots(min(h, m-i), min(dotStrip, whole-j), k, alpha, a[i*lda:], lda, b[j*ldb:], ldb, c[i*ldc+j:], ldc, acc)
		}
	}
	if whole < n {
		dotEdge(m, n-whole, k, alpha, a, lda, b[whole*ldb:], ldb, c[whole:], ldc, acc)
	}
}

func dotEdge(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	for i := range m {
		for j := range n {
			sum := alpha * simd.Dot(a[i*lda:][:k], b[j*ldb:][:k])
			if acc {
				sum += c[i*ldc+j]
			}
			c[i*ldc+j] = sum
		}
	}
}

// fewRowsNN is C = alpha·A·B for few rows of A: part of a row of B is read from memory and added to all rows of C.
type fewRowsNN gemm

func (g *fewRowsNN) Block(lo, hi int) {
	if !g.acc {
		scaleRows(g.c[lo:], g.ldc, g.m, hi-lo, 0)
	}
	for p := range g.k {
		row := g.b[p*g.ldb+lo:][:hi-lo]
		for i := range g.m {
			simd.Axpy(g.alpha*g.a[i*g.ars+p*g.acs], row, g.c[i*g.ldc+lo:][:hi-lo])
		}
	}
}

// MultiplyNN computes C[m,n] = A·B, or C += A·B if acc, with A[i,p] = a[i·ars+p·acs] and B [k,n], on the calling thread and without
// packing: it suits few rows of A.
func MultiplyNN(m, n, k int, a []float32, ars, acs int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	for j := 0; j < n; j += simd.Gemm().NR {
		multiplyPanel(m, min(simd.Gemm().NR, n-j), k, a, ars, acs, b[j:], ldb, c[j:], ldc, acc)
	}
}
