package kernels

import (
	"sync"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// A product of few rows is bound by reading B from memory: B is read once, as it lies.

// skinnyGrain is how many of B's columns (rows of k elements if transposed) make a task: few, as at the end of a product the
// other threads wait for the last task.
func skinnyGrain(k int) int { return pool.RoundUp(max(1, skinnyWork/2/k), dotStrip) }

// skinnyNT is C = alpha·A·Bᵀ for few rows of A.
type skinnyNT gemm

func (g *skinnyNT) Release() { (*gemm)(g).release() }

func (g *skinnyNT) Block(lo, hi int) {
	a := dotOperand{x: g.a, ld: g.ars, m: g.m, k: g.k}
	if simd.Gemm().DotsPacked != nil && g.m > simd.DotsRows {
		p := packs.Get().(*heldRows)
		defer packs.Put(p)
		p.hold(g)
		a.packed = p.x
	}
	depth := pool.Evenly(g.k, skinnyPart/g.m, 64)
	for p := 0; p < g.k; p += depth {
		k := min(depth, g.k-p)
		if g.half != simd.F32 {
			g.halfBlock(lo, hi, p, k, a)
			continue
		}
		a.times(hi-lo, p, k, g.alpha, g.b[lo*g.ldb+p:], g.ldb, g.c[lo:], g.ldc, g.acc || p > 0)
	}
}

// dotOperand is the few rows of A [m,k] of a product with B transposed.
type dotOperand struct {
	x      []float32 // as they lie, ld apart
	ld     int
	m, k   int
	packed []float32 // as packRows leaves them, or nil
}

const (
	packedGroup = 8 // most rows that are packed together
)

// packRows packs rows of A, in groups of up to packedGroup: of each row of a group maxLanes elements, then the next, with zeros at
// the end. So a product reads them from end to end: rows that lie a power of two apart share a few lines of the first-level cache.
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

// heldRows is rows of A, packed.
type heldRows struct {
	serial uint64 // of the product of which they are
	x      []float32
}

var packs = sync.Pool{New: func() any { return new(heldRows) }}

// hold packs the rows of a product unless they are held already.
func (p *heldRows) hold(g *skinnyNT) {
	if p.serial != g.serial {
		p.x = packRows(p.x, g.a, g.ars, g.m, g.k)
		p.serial = g.serial
	}
}

// times is C[m,n] = alpha·A·Bᵀ, or C += if acc, for elements [p,p+k) of the rows of A, p a multiple of maxLanes, and B [n,k] as it
// lies. A strip of rows of B is taken at a time, so they come from memory once and from the cache for the remaining rows of A.
func (a *dotOperand) times(n, p, k int, alpha float32, b []float32, ldb int, c []float32, ldc int, acc bool) {
	if a.packed == nil {
		dotRows(a.m, n, k, alpha, a.x[p:], a.ld, b, ldb, c, ldc, acc)
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

// dotRows is times for rows of A as they lie.
func dotRows(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
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

// skinnyNN is C = alpha·A·B for few rows of A: a part of a row of B comes from memory, and is added to all rows of C.
type skinnyNN gemm

func (g *skinnyNN) Block(lo, hi int) {
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

// addRowsProduct is C[m,n] = A·B, or C += if acc, with B [k,n] as it lies.
func addRowsProduct(m, n, k int, a []float32, ars, acs int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	for j := 0; j < n; j += simd.Gemm().NR {
		multiplyPanel(m, min(simd.Gemm().NR, n-j), k, a, ars, acs, b[j:], ldb, c[j:], ldc, acc)
	}
}
