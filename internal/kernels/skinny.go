package kernels

// A product of few rows is bound by reading B from memory: B is read once, as it lies.

// skinnyGrain is how many of B's columns (rows of k elements if transposed) make a task: few, as at the end of a product the
// other threads wait for the last task.
func skinnyGrain(k int) int { return roundUp(max(1, skinnyWork/2/k), 32) }

// skinnyNT is C = alpha·A·Bᵀ for few rows of A.
type skinnyNT gemm

func (g *skinnyNT) release() { (*gemm)(g).release() }

func (g *skinnyNT) block(lo, hi int) {
	depth := evenly(g.k, skinnyPart/g.m, 64)
	for p := 0; p < g.k; p += depth {
		k := min(depth, g.k-p)
		if g.half != Full {
			g.halfBlock(lo, hi, p, k)
			continue
		}
		dotRows(g.m, hi-lo, k, g.alpha, g.a[p:], g.ars, g.b[lo*g.ldb+p:], g.ldb, g.c[lo:], g.ldc, g.acc || p > 0)
	}
}

// dotRows is C[m,n] = alpha·A·Bᵀ, or C += if acc, with A [m,k] and B [n,k] as they lie. A strip of rows of B is taken at a
// time, so they come from memory once and from the cache for the remaining rows of A.
func dotRows(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	dots, h, w := kern.dots, 4, 4
	if kern.dotPairs != nil && m > 4 {
		dots, h, w = kern.dotPairs, evenly(m, 8, 1), 2
	}
	whole := n / w * w
	for j := 0; j < whole; j += dotStrip {
		for i := 0; i < m; i += h {
			dots(min(h, m-i), min(dotStrip, whole-j), k, alpha, a[i*lda:], lda, b[j*ldb:], ldb, c[i*ldc+j:], ldc, acc)
		}
	}
	if whole < n {
		dotEdge(m, n-whole, k, alpha, a, lda, b[whole*ldb:], ldb, c[whole:], ldc, acc)
	}
}

func dotEdge(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	for i := range m {
		for j := range n {
			store(&c[i*ldc+j], alpha*kern.dot(a[i*lda:][:k], b[j*ldb:][:k]), acc)
		}
	}
}

// skinnyNN is C = alpha·A·B for few rows of A: a part of a row of B comes from memory, and is added to all rows of C.
type skinnyNN gemm

func (g *skinnyNN) block(lo, hi int) {
	if !g.acc {
		scaleRows(g.c[lo:], g.ldc, g.m, hi-lo, 0)
	}
	for p := range g.k {
		row := g.b[p*g.ldb+lo:][:hi-lo]
		for i := range g.m {
			kern.axpy(g.alpha*g.a[i*g.ars+p*g.acs], row, g.c[i*g.ldc+lo:][:hi-lo])
		}
	}
}

// addRowsProduct is C[m,n] = A·B, or C += if acc, with B [k,n] as it lies.
func addRowsProduct(m, n, k int, a []float32, ars, acs int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	for j := 0; j < n; j += kern.nr {
		multiplyPanel(m, min(kern.nr, n-j), k, a, ars, acs, b[j:], ldb, c[j:], ldc, acc)
	}
}
