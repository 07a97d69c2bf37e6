//go:build cuda && linux

package cuda

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/ebitengine/purego"
)

// The functions of cuBLASLt.
var (
	ltCreate              func(*uintptr) int32
	ltGetVersion          func() uint64
	ltMatmulDescCreate    func(*uintptr, int32, int32) int32
	ltMatmulDescSet       func(uintptr, int32, unsafe.Pointer, uint64) int32
	ltMatmulDescDestroy   func(uintptr) int32
	ltLayoutCreate        func(*uintptr, int32, uint64, uint64, int64) int32
	ltLayoutSet           func(uintptr, int32, unsafe.Pointer, uint64) int32
	ltLayoutDestroy       func(uintptr) int32
	ltPreferenceCreate    func(*uintptr) int32
	ltPreferenceSet       func(uintptr, int32, unsafe.Pointer, uint64) int32
	ltPreferenceDestroy   func(uintptr) int32
	ltMatmulAlgoHeuristic func(lt, desc, a, b, c, d, pref uintptr, n int32, results unsafe.Pointer, got *int32) int32
	ltMatmul              func(lt, desc uintptr, alpha unsafe.Pointer, a, al, b, bl uintptr, beta unsafe.Pointer, c, cl, d, dl uintptr, algo unsafe.Pointer, work uintptr, workBytes uint64, stream uintptr) int32
)

var blasLib *lib

func loadBLAS() (err error) {
	if blasLib != nil {
		return nil
	}
	blasLib, err = load("libcublasLt", purego.RTLD_GLOBAL, map[string]any{
		"cublasLtCreate": &ltCreate, "cublasLtGetVersion": &ltGetVersion, "cublasLtMatmulDescCreate": &ltMatmulDescCreate,
		"cublasLtMatmulDescSetAttribute": &ltMatmulDescSet, "cublasLtMatmulDescDestroy": &ltMatmulDescDestroy,
		"cublasLtMatrixLayoutCreate": &ltLayoutCreate, "cublasLtMatrixLayoutSetAttribute": &ltLayoutSet, "cublasLtMatrixLayoutDestroy": &ltLayoutDestroy,
		"cublasLtMatmulPreferenceCreate": &ltPreferenceCreate, "cublasLtMatmulPreferenceSetAttribute": &ltPreferenceSet,
		"cublasLtMatmulPreferenceDestroy": &ltPreferenceDestroy, "cublasLtMatmulAlgoGetHeuristic": &ltMatmulAlgoHeuristic,
		"cublasLtMatmul": &ltMatmul,
	})
	return err
}

// Type is the storage type of a matrix's elements, by cuBLAS's number.
type Type int32

// The types.
const (
	F32  Type = 0
	F64  Type = 1
	F16  Type = 2
	BF16 Type = 14
)

// size returns the size of a number in bytes.
func (t Type) size() int {
	switch t {
	case F64:
		return 8
	case F32:
		return 4
	}
	return 2
}

// Matrix is a row-major matrix in the GPU's memory.
type Matrix struct {
	At   uintptr
	Type Type
	LD   int // elements from one row to the next
}

// Product is C = Alpha·op(A)·op(B) + Beta·C with op(A) [M, K] and op(B) [K, N]. Sums are in f32, without TF32, or in f64 if
// A is.
type Product struct {
	TA, TB      bool
	M, N, K     int
	Alpha, Beta float32
	A, B, C     Matrix
	// Fastest makes the first call of a kind of product measure the algorithms that cuBLASLt offers, rather than follow its
	// estimate. Different runs may then choose different ones, which round differently.
	Fastest bool
	// Rounded lets factors of F32 be rounded to bfloat16 on their way. Sums are in float32.
	Rounded bool
}

func (p Product) String() string {
	return fmt.Sprintf("product [%d,%d]·[%d,%d]", p.M, p.K, p.K, p.N)
}

// productKey identifies the products that share a plan of cuBLASLt.
type productKey struct {
	ta, tb        bool
	m, n, k       int
	lda, ldb, ldc int
	types         [3]Type
	aligned       [3]uint32
	add, fastest  bool
	rounded       bool
}

// productPlan is the way in which a product is computed.
type productPlan struct {
	desc, a, b, c uintptr
	algo          algorithm
}

// algorithm is cublasLtMatmulAlgo_t.
type algorithm [8]uint64

// productCache holds plans, and the workspace of cuBLASLt.
type productCache struct {
	lt    uintptr
	work  uintptr
	plans map[productKey]*productPlan
}

const workBytes = 64 << 20

func (c *productCache) start() error {
	c.plans = map[productKey]*productPlan{}
	if err := blasError(ltCreate(&c.lt), "cublasLtCreate"); err != nil {
		return err
	}
	return driverError(cuMemAlloc(&c.work, workBytes), "cuMemAlloc of cuBLASLt's work space")
}

func blasError(code int32, call string) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: cuBLAS status %d", call, code)
}

// Multiply computes a product.
func (g *GPU) Multiply(p Product) {
	g.do(p, func() error {
		plan, err := g.productPlan(p)
		if err == nil {
			err = g.multiply(p, plan, &plan.algo)
		}
		if err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
		return nil
	})
}

// multiply computes a product by an algorithm.
func (g *GPU) multiply(p Product, plan *productPlan, algo *algorithm) error {
	c := &g.products
	alpha, beta := &g.params.values[0], &g.params.values[1]
	if *alpha, *beta = Float(p.Alpha), Float(p.Beta); p.A.Type == F64 {
		*alpha, *beta = math.Float64bits(float64(p.Alpha)), math.Float64bits(float64(p.Beta))
	}
	// Row-major matrices are transposed column-major ones: Cᵀ = op(B)ᵀ·op(A)ᵀ.
	code := ltMatmul(c.lt, plan.desc, unsafe.Pointer(alpha), p.B.At, plan.b, p.A.At, plan.a, unsafe.Pointer(beta),
		p.C.At, plan.c, p.C.At, plan.c, unsafe.Pointer(&algo[0]), c.work, workBytes, g.stream)
	return blasError(code, "cublasLtMatmul")
}

// alignment returns the largest power of two up to 16 that divides an address and the bytes of a row.
func alignment(m Matrix) uint32 {
	bits := uint64(m.At) | uint64(m.LD*m.Type.size()) | 16
	return uint32(bits & -bits)
}

// Constants of cuBLASLt's header.
const (
	compute32F         = 68
	computeFast16BF    = 75
	compute64F         = 70
	descTransA         = 3
	descTransB         = 4
	prefWorkspaceBytes = 1
	prefReductions     = 3
	prefAlignmentA     = 5 // followed by those of B, C and D
)

// productPlan returns the way in which a product is computed.
func (g *GPU) productPlan(p Product) (*productPlan, error) {
	key := productKey{
		p.TA, p.TB, p.M, p.N, p.K, p.A.LD, p.B.LD, p.C.LD,
		[3]Type{p.A.Type, p.B.Type, p.C.Type},
		[3]uint32{alignment(p.A), alignment(p.B), alignment(p.C)},
		p.Beta != 0, p.Fastest, p.Rounded,
	}
	if plan := g.products.plans[key]; plan != nil {
		return plan, nil
	}
	plan := new(productPlan)
	if err := plan.describe(p); err != nil {
		return nil, err
	}
	algorithms, err := plan.algorithms(g.products.lt, key.aligned, p.Fastest)
	if err != nil {
		return nil, err
	}
	plan.algo = algorithms[0]
	if len(algorithms) > 1 {
		if plan.algo, err = g.fastest(p, plan, algorithms); err != nil {
			return nil, err
		}
	}
	g.products.plans[key] = plan
	return plan, nil
}

// fastest measures algorithms and returns the fastest one.
func (g *GPU) fastest(p Product, plan *productPlan, algorithms []algorithm) (best algorithm, err error) {
	const times = 3
	if p.Beta != 0 { // C must not change
		size := uint64(p.M * p.C.LD * p.C.Type.size())
		if cuMemAlloc(&p.C.At, size) != 0 {
			return algorithms[0], nil // there is no memory for it
		}
		defer cuMemFree(p.C.At)
	}
	shortest := float32(math.Inf(1))
	for _, algo := range algorithms {
		t := new(timings)
		for i := range times + 1 { // the first call may load code
			if i > 0 && len(t.events) == 0 {
				err = t.mark(g.stream, "")
			}
			if err = cmp.Or(err, g.multiply(p, plan, &algo)); err != nil {
				break
			}
		}
		if err != nil {
			t.destroy()
			err = nil // cuBLASLt offered it, but it does not work
			continue
		}
		ms, err := t.elapsed(g.stream)
		if err != nil {
			return best, err
		}
		if ms < shortest {
			shortest, best = ms, algo
		}
	}
	if math.IsInf(float64(shortest), 1) {
		return best, errors.New("none of cuBLASLt's algorithms works")
	}
	return best, nil
}

func (plan *productPlan) describe(p Product) error {
	compute, scale := int32(compute32F), F32
	switch {
	case p.A.Type == F64:
		compute, scale = compute64F, F64
	case p.Rounded:
		compute = computeFast16BF
	}
	if err := blasError(ltMatmulDescCreate(&plan.desc, compute, int32(scale)), "cublasLtMatmulDescCreate"); err != nil {
		return err
	}
	for attr, transposed := range map[int32]bool{descTransA: p.TB, descTransB: p.TA} {
		op := int32(0)
		if transposed {
			op = 1
		}
		if err := blasError(ltMatmulDescSet(plan.desc, attr, unsafe.Pointer(&op), 4), "cublasLtMatmulDescSetAttribute"); err != nil {
			return err
		}
	}
	layout := func(to *uintptr, m Matrix, rows, cols int, transposed bool) error {
		if transposed {
			rows, cols = cols, rows
		}
		return blasError(ltLayoutCreate(to, int32(m.Type), uint64(cols), uint64(rows), int64(m.LD)), "cublasLtMatrixLayoutCreate")
	}
	if err := layout(&plan.a, p.A, p.M, p.K, p.TA); err != nil {
		return err
	}
	if err := layout(&plan.b, p.B, p.K, p.N, p.TB); err != nil {
		return err
	}
	return layout(&plan.c, p.C, p.M, p.N, false)
}

// heuristicResult is cublasLtMatmulHeuristicResult_t.
type heuristicResult struct {
	algo      algorithm
	workspace uint64
	state     int32
	waves     float32
	reserved  [4]int32
}

// maxAlgorithms is the number of algorithms that are measured.
const maxAlgorithms = 8

// algorithms returns the algorithms that cuBLASLt offers, the one that it estimates to be the fastest first: only that one, or
// several. None adds up partial sums in an order that may vary.
func (plan *productPlan) algorithms(lt uintptr, aligned [3]uint32, several bool) ([]algorithm, error) {
	var pref uintptr
	if err := blasError(ltPreferenceCreate(&pref), "cublasLtMatmulPreferenceCreate"); err != nil {
		return nil, err
	}
	defer ltPreferenceDestroy(pref)
	most, reductions := uint64(workBytes), uint32(2|4) // by a kernel of its own, in the type of sums or of the result
	if err := blasError(ltPreferenceSet(pref, prefWorkspaceBytes, unsafe.Pointer(&most), 8), "cublasLtMatmulPreferenceSetAttribute"); err != nil {
		return nil, err
	}
	if err := blasError(ltPreferenceSet(pref, prefReductions, unsafe.Pointer(&reductions), 4), "cublasLtMatmulPreferenceSetAttribute"); err != nil {
		return nil, err
	}
	for i, a := range []uint32{aligned[1], aligned[0], aligned[2], aligned[2]} {
		if err := blasError(ltPreferenceSet(pref, int32(prefAlignmentA+i), unsafe.Pointer(&a), 4), "cublasLtMatmulPreferenceSetAttribute"); err != nil {
			return nil, err
		}
	}
	var results [maxAlgorithms]heuristicResult
	wanted, got := int32(1), int32(0)
	if several {
		wanted = maxAlgorithms
	}
	code := ltMatmulAlgoHeuristic(lt, plan.desc, plan.b, plan.a, plan.c, plan.c, pref, wanted, unsafe.Pointer(&results[0]), &got)
	if err := blasError(code, "cublasLtMatmulAlgoGetHeuristic"); err != nil {
		return nil, err
	}
	var all []algorithm
	for _, r := range results[:got] {
		if r.state == 0 {
			all = append(all, r.algo)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("cuBLASLt has no algorithm for it (status %d)", results[0].state)
	}
	return all, nil
}
