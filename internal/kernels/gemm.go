package kernels

import "sync"

// The blocking follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): kc deep panels
// of A and B are packed, a block of A stays in the second-level cache, a panel of B in the first.
const (
	kc = 256  // largest depth of a panel: one of B and one of A fit the first-level cache
	mc = 168  // most rows of A per task
	nc = 256  // most columns of B per task
	mp = 2016 // most rows of A packed at a time
	np = 4096 // most columns of B packed at a time

	skinnyRows  = 16      // up to here B is not packed but streamed once
	skinnyWork  = 1 << 16 // elements of B per task of a skinny product
	skinnyPart  = 1 << 13 // most elements of A that a skinny product reads again and again: 32 KiB
	skinnyDepth = 128     // rows of an untransposed B that a skinny product takes at a time
	dotStrip    = 32      // rows of a transposed B that a skinny product takes at a time
	smallWork   = 1 << 18 // multiplications up to which a product is not cut in tasks
)

// Gemm computes C[m,n] = alpha·op(A)[m,k]·op(B)[k,n] + beta·C. op(A) is A, stored [m,k] with rows lda apart, or if ta
// the transpose of A stored [k,m]; likewise op(B), stored [k,n], or [n,k] if tb. With beta 0, C is not read.
func Gemm(ta, tb bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	o := operands{m: m, n: n, k: k, alpha: alpha, a: a, b: b, ldb: ldb, tb: tb, c: c, ldc: ldc}
	o.ars, o.acs = strides(ta, lda)
	product(beta, o)
}

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
	g.acc = beta != 0
	switch {
	case g.m <= skinnyRows && g.tb && g.acs == 1:
		run(g.n, skinnyGrain(g.k), (*skinnyNT)(g))
	case g.m <= skinnyRows && !g.tb:
		run(g.n, skinnyGrain(g.k), (*skinnyNN)(g))
	case g.m*g.n*g.k <= smallWork:
		g.small()
	default:
		g.blocked()
	}
	g.operands = operands{}
	gemms.Put(g)
}

// operands are the arguments of Gemm, with A as strides: op(A)[i,p] = a[i·ars+p·acs]. If acc, C is added to.
type operands struct {
	m, n, k  int
	alpha    float32
	a, b, c  []float32
	ars, acs int
	ldb, ldc int
	tb, acc  bool
	w        []uint16 // what b holds, if half is not Full
	half     Half
}

// gemm is one product and its scratch.
type gemm struct {
	operands
	packedA, packedB []float32
	// The panel in work: rows [i0,i1) of A, columns [j0,j1) of B, depth [p0,p1); its tasks have mb rows and nb columns.
	i0, i1, j0, j1, p0, p1, mb, nb int
}

var gemms = sync.Pool{New: func() any { return new(gemm) }}

func strides(trans bool, ld int) (row, col int) {
	if trans {
		return 1, ld
	}
	return ld, 1
}

// scaleRows is C *= beta, where 0 overwrites whatever C holds.
func scaleRows(c []float32, ldc, m, n int, beta float32) {
	for i := range m {
		row := c[i*ldc:][:n]
		if beta == 0 {
			clear(row)
		} else if beta != 1 {
			kern.scale(row, beta)
		}
	}
}

// grown returns a slice of n elements, s itself if it is long enough. The content is arbitrary.
func grown(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

func fill(s []float32, v float32) {
	for i := range s {
		s[i] = v
	}
}

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

func (g *gemm) small() {
	a, ars, acs := g.a, g.ars, g.acs
	if g.alpha != 1 {
		g.packedA = grown(g.packedA, g.m*g.k)
		for i := range g.m {
			packScaled(g.packedA[i*g.k:][:g.k], a[i*ars:], acs, g.alpha)
		}
		a, ars, acs = g.packedA, g.k, 1
	}
	g.packedB = grown(g.packedB, roundUp(g.n, kern.nr)*g.k)
	for j := 0; j < g.n; j += kern.nr {
		g.packB(g.packedB[j*g.k:], 0, g.k, j, min(kern.nr, g.n-j))
	}
	multiplyMatrix(g.m, g.n, g.k, a, ars, acs, g.packedB, g.c, g.ldc, g.acc)
}

// multiplyMatrix is C[m,n] (+)= A·B for a B packed by packMatrix.
func multiplyMatrix(m, n, k int, a []float32, ars, acs int, packed, c []float32, ldc int, acc bool) {
	for j := 0; j < n; j += kern.nr {
		multiplyPanel(m, min(kern.nr, n-j), k, a, ars, acs, packed[j*k:], kern.nr, c[j:], ldc, acc)
	}
}

// multiplyPanel is C[m,n] (+)= A·B for one panel B of n <= nr columns with rows bs apart.
func multiplyPanel(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	h := evenly(m, kern.mr, 1) // a tile of few rows would leave the processor waiting for its sums
	for i := 0; i < m; i += h {
		kern.micro(min(h, m-i), n, k, a[i*ars:], ars, acs, b, bs, c[i*ldc:], ldc, acc)
	}
}

func (g *gemm) blocked() {
	depth := evenly(g.k, kc, 1)
	for g.j0 = 0; g.j0 < g.n; g.j0 += np {
		g.j1 = min(g.j0+np, g.n)
		for g.p0 = 0; g.p0 < g.k; g.p0 += depth {
			g.p1 = min(g.p0+depth, g.k)
			g.packPanelB()
			for g.i0 = 0; g.i0 < g.m; g.i0 += mp {
				g.i1 = min(g.i0+mp, g.m)
				g.packPanelA()
				run(g.tasks(), 1, (*multiplying)(g))
			}
		}
	}
}

// tasks cuts the panel in tasks of about one size and returns how many there are.
func (g *gemm) tasks() int {
	g.mb, g.nb = evenly(g.i1-g.i0, mc, kern.mr), evenly(g.j1-g.j0, nc, kern.nr)
	return ceilDiv(g.i1-g.i0, g.mb) * ceilDiv(g.j1-g.j0, g.nb)
}

// evenly returns the size, a multiple, of the equal parts of n that are not much above the limit.
func evenly(n, limit, multiple int) int {
	return roundUp(ceilDiv(n, ceilDiv(n, limit)), multiple)
}

func ceilDiv(n, d int) int { return (n + d - 1) / d }

// multiplying is one task: a block of rows of A times a block of columns of B.
type multiplying gemm

func (t *multiplying) block(lo, hi int) {
	g := (*gemm)(t)
	across := ceilDiv(g.j1-g.j0, g.nb)
	for ; lo < hi; lo++ {
		i, j := lo/across*g.mb, lo%across*g.nb
		i1, j1 := min(i+g.mb, g.i1-g.i0), min(j+g.nb, g.j1-g.j0)
		for ; j < j1; j += kern.nr {
			g.multiplyRows(i, i1, j, min(kern.nr, j1-j))
		}
	}
}

// multiplyRows is rows [i,i1) of the panel in work, for the n columns of one panel of B.
func (g *gemm) multiplyRows(i, i1, j, n int) {
	k, acc := g.p1-g.p0, g.acc || g.p0 > 0
	b, c := g.packedB[j*k:], g.c[g.i0*g.ldc+g.j0+j:]
	for ; i < i1; i += kern.mr {
		h := min(kern.mr, i1-i)
		if g.inPlace() {
			kern.micro(h, n, k, g.a[(g.i0+i)*g.ars+g.p0:], g.ars, 1, b, kern.nr, c[i*g.ldc:], g.ldc, acc)
		} else {
			kern.micro(h, n, k, g.packedA[i*k:], 1, h, b, kern.nr, c[i*g.ldc:], g.ldc, acc)
		}
	}
}
