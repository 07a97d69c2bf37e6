package simd

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// path is one implementation of the inner loops.
type path struct {
	name      string
	gemm      GemmKernels
	attention *AttentionKernels // nil if there are none
	amx       *AMXKernels       // nil if there are none

	// The functions on vectors: see those of their names.
	dot           func(x, y []float32) float32
	sum, max      func(x []float32) float32
	add, mul      func(z, x, y []float32)
	axpy          func(s float32, x, y []float32)
	mulAdd        func(s float32, x, y, z []float32)
	scale         func(x []float32, s float32)
	affine        func(y, x []float32, s, t float32)
	rotate        func(y0, y1, x0, x1, cos, sin []float32, s float32)
	expSum        func(y, x []float32, shift float32) float32
	sigmoid       func(y, x []float32, c1, c3 float32)
	slope         func(y, x []float32, c1, c3 float32)
	cdf           func(y, x []float32)
	adamw         func(p, g, m, v []float32, s *AdamWConstants)
	fromBF16      func(dst []float32, src []uint16) // of one length
	fromF16       func(dst []float32, src []uint16)
	toBF16, toF16 func(dst []uint16, src []float32)
	// fromInts is Ints.DecodeRows for w a multiple of intsBlock; nil if there is none.
	fromInts func(f Ints, dst []float32, src []byte, lds int, scales []float32, w int)
}

// GemmKernels are what matrix products are made of.
type GemmKernels struct {
	MR, NR int // rows and columns of the tile that Micro keeps in registers
	// Micro computes C[m,n] = A·B, or C += A·B if acc, for m <= MR, n <= NR, A[i,p] = a[i·ars+p·acs] and B[p,j] = b[p·bs+j].
	Micro func(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool)
	// PanelRows and PanelColumns are the size of the tile of Panel. PanelColumns is a multiple of Lane.
	PanelRows, PanelColumns, Lane int
	// Panel, if not nil, computes C[PanelRows,panels·w] = A·B, or C += A·B if acc, for a packed A, A[i,p] = a[p·PanelRows+i],
	// and a number of consecutive panels of B: element (p,j) of a panel is at p·w+j, where w is PanelColumns or a Lane less.
	// It prefetches rows at ahead, lda apart.
	Panel func(w, panels, k int, a, b, c []float32, ldc int, acc bool, ahead []float32, lda int)
	// PackN packs rows into panels: dst[t·stride+r·w+j] = src[r·ld+t·w+j] for rows r, panels t and j < w, which is NR or the
	// width of a panel of A or B.
	PackN func(w, rows, panels int, src []float32, ld int, dst []float32, stride int)
	// PackT packs rows transposed: dst[p·ldd+j] = src[j·ld+p] for j < n, p < k.
	PackT func(dst, src []float32, ld, n, k, ldd int)
	// Dots computes C[m,n] = alpha·A·Bᵀ, or C += alpha·A·Bᵀ if acc, for m <= DotsRows, n a multiple of 4, A[i,p] = a[i·lda+p]
	// and B[j,p] = b[j·ldb+p].
	Dots func(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool)
	// DotsPacked, if not nil, is Dots for DotsRows <= m <= 2·DotsRows, an even n and a packed A: MaxLanes elements of each row,
	// then the next of each row, with zeros at the end.
	DotsPacked func(m, n, k int, alpha float32, a, b []float32, ldb int, c []float32, ldc int, acc bool)
	// HalfDots and HalfDotsPacked, if not nil, are Dots and DotsPacked with alpha 1, for a B in the format h and k a multiple of
	// MaxLanes.
	HalfDots       func(h Half, m, n, k int, a []float32, lda int, b []uint16, ldb int, c []float32, ldc int, acc bool)
	HalfDotsPacked func(h Half, m, n, k int, a []float32, b []uint16, ldb int, c []float32, ldc int, acc bool)
}

var (
	paths = append(archPaths(), &goPath, &refPath) // best first
	kern  = choose(os.Getenv("GQA_KERNELS"))
)

// DotsRows is the most rows of A that Dots takes. DotsPacked takes over from there.
const DotsRows = 4

// hardwarePrefetch is what HardwarePrefetch reports.
var hardwarePrefetch bool

// HardwarePrefetch reports whether memory that is read as one stream is best left to the hardware prefetcher: kernels then prefetch
// no more than the lines in work.
func HardwarePrefetch() bool { return hardwarePrefetch }

// SetHardwarePrefetch sets what HardwarePrefetch reports, and returns what it was. Like SetPath it is there for tests.
func SetHardwarePrefetch(on bool) (was bool) {
	was, hardwarePrefetch = hardwarePrefetch, on
	return was
}

// choose returns the path of that name, or the best if there is none: a command must not fail over a tuning variable.
func choose(name string) *path {
	if i := slices.IndexFunc(paths, func(p *path) bool { return p.name == name }); i >= 0 {
		return paths[i]
	}
	return paths[0]
}

// Gemm returns the kernels of matrix products in use.
func Gemm() *GemmKernels { return &kern.gemm }

// Attention returns the kernels of attention of one query in use; nil if there are none.
func Attention() *AttentionKernels { return kern.attention }

// AMX returns the kernels of matrix instructions in use; nil if there are none.
func AMX() *AMXKernels { return kern.amx }

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

// SetPath chooses the implementation by name. It must not be called while kernels run; it is there for tests and benchmarks.
func SetPath(name string) error {
	p := choose(name)
	if p.name != name {
		return fmt.Errorf("kernel path %q: this machine can run %s", name, strings.Join(Paths(), ", "))
	}
	kern = p
	return nil
}
