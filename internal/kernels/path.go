package kernels

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// path is one implementation of the inner loops.
type path struct {
	name string
	// mr and nr are the rows and columns of the tile that micro keeps in registers.
	mr, nr int
	// micro is C[m,n] = A·B, or C += A·B if acc: m <= mr, n <= nr, A[i,p] = a[i·ars+p·acs], B[p,j] = b[p·bs+j].
	micro func(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool)
	// tall and wide are the rows and columns of the tile of large products; lane is what wide is a multiple of.
	tall, wide, lane int
	// panel, if not nil, is C[tall,panels·w] = A·B, or C += A·B if acc, for a packed A, A[i,p] = a[p·tall+i], and as many
	// panels of B, one after another: element (p,j) of a panel lies at p·w+j, where w is wide or a lane less. Rows at ahead,
	// lda apart, are asked for.
	panel func(w, panels, k int, a, b, c []float32, ldc int, acc bool, ahead []float32, lda int)
	// regroup is dst[t·apart+r·w+j] = src[r·ld+t·w+j] for so many rows r and panels t, and all j < w, which is nr or the
	// width of a panel of A or B.
	regroup func(w, rows, panels int, src []float32, ld int, dst []float32, apart int)
	// dots is C[m,n] = alpha·A·Bᵀ, or C += if acc, for m <= 4, n a multiple of 4, A[i,p] = a[i·lda+p], B[j,p] = b[j·ldb+p].
	dots func(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool)
	// dotsPacked, if not nil, is the same for 4 <= m <= 8, an even n and an A as packRows leaves it.
	dotsPacked func(m, n, k int, alpha float32, a, b []float32, ldb int, c []float32, ldc int, acc bool)
	// halfDots and halfDotsPacked, if not nil, are dots and dotsPacked with alpha 1 for a B in the format h and k a multiple of
	// maxLanes.
	halfDots       func(h Half, m, n, k int, a []float32, lda int, b []uint16, ldb int, c []float32, ldc int, acc bool)
	halfDotsPacked func(h Half, m, n, k int, a []float32, b []uint16, ldb int, c []float32, ldc int, acc bool)
	// packT is dst[p·nr+j] = src[j·ld+p] for j < n, p < k.
	packT func(dst, src []float32, ld, n, k, nr int)

	dot    func(x, y []float32) float32
	sum    func(x []float32) float32
	max    func(x []float32) float32                           // of len(x) >= 1
	add    func(z, x, y []float32)                             // z = x + y
	mul    func(z, x, y []float32)                             // z = x·y
	axpy   func(s float32, x, y []float32)                     // y += s·x
	mulAdd func(s float32, x, y, z []float32)                  // z += s·x·y
	scale  func(x []float32, s float32)                        // x *= s
	affine func(y, x []float32, s, t float32)                  // y = x·s + t
	rotate func(y0, y1, x0, x1, cos, sin []float32, s float32) // y0 = x0·cos - s·x1·sin, y1 = x1·cos + s·x0·sin

	lanes *lanePath // attention of one query; nil if there is none
	tiles *tilePath // products of bfloat16 by matrix instructions; nil if there are none

	fromBF16, fromF16 func(dst []float32, src []uint16) // of one length
	toBF16, toF16     func(dst []uint16, src []float32)

	expSum  func(y, x []float32, shift float32) float32   // y = exp(x - shift), the sum is returned
	sigmoid func(y, x []float32, c1, c3 float32)          // y = 1/(1+exp(-x·(c1+c3·x²)))
	slope   func(y, x []float32, c1, c3 float32)          // the derivative of x·sigmoid(x·(c1+c3·x²)); y is not x
	cdf     func(y, x []float32)                          // y = Φ(x), the normal distribution
	adamw   func(p, g, m, v []float32, s *adamwConstants) // one step of AdamW
}

// adamwConstants are what a step needs per element.
type adamwConstants struct {
	gscale, keep   float32 // g *= gscale, p *= keep
	w1, beta2, w2  float32 // m += w1·(g-m), v = beta2·v + w2·g²
	rsqrt, eps, lr float32 // p -= lr·m/(√v·rsqrt + eps)
}

var (
	paths = append(archPaths(), &goPath, &refPath) // best first
	kern  = choose(os.Getenv("GQA_KERNELS"))
)

// unpackedRows is the most rows of A that dots takes; from there on dotsPacked does.
const unpackedRows = 4

// ownPrefetch tells that memory read as one stream is best left to the processor's own prefetching.
var ownPrefetch bool

// choose returns the path of that name, or the best if there is none: a tool must not fail over a tuning variable.
func choose(name string) *path {
	if i := slices.IndexFunc(paths, func(p *path) bool { return p.name == name }); i >= 0 {
		return paths[i]
	}
	return paths[0]
}

// Path returns the name of the implementation in use: ref, go, avx2, avx512, avx512bf16, amx or neon. The environment variable
// GQA_KERNELS chooses one at start; a name that this machine cannot run is ignored.
func Path() string { return kern.name }

// Paths returns the names that this machine can run, best first.
func Paths() []string {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = p.name
	}
	return names
}

// SetPath chooses the implementation by name. It must not run beside any kernel; it is there for tests and benchmarks.
func SetPath(name string) error {
	p := choose(name)
	if p.name != name {
		return fmt.Errorf("kernel path %q: this machine can run %s", name, strings.Join(Paths(), ", "))
	}
	kern = p
	return nil
}
