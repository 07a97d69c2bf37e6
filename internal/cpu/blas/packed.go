package blas

import (
	"sync"
	"unsafe"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// Packed is a matrix of weights in bfloat16 in the order in which matrix instructions read them: see simd.AMXKernels.Dots.
type Packed struct {
	n, k int
	data []uint16
	amx  *simd.AMXKernels
}

// PackHalf packs weights [n,k] in the format h for GemmNTPacked. It returns nil if that would not be faster than GemmNTHalf.
func PackHalf(h simd.Half, n, k int, w []uint16) *Packed {
	if simd.AMX() == nil || h != simd.BF16 || n%simd.AMXRows != 0 || k%simd.AMXDepth != 0 || n*k == 0 {
		return nil
	}
	p := &Packed{n, k, make([]uint16, n*k), simd.AMX()}
	memory.HugePages(p.data)
	pool.For(n, simd.AMXRowBlock, func(lo, hi int) {
		whole := hi - (hi-lo)%simd.AMXRowBlock
		pack(p.data[lo*k:], w[lo*k:], whole-lo, k)
		for ; whole < hi; whole += simd.AMXRows {
			pack(p.data[whole*k:], w[whole*k:], simd.AMXRows, k)
		}
	})
	return p
}

// pack packs a block of n rows.
func pack(dst, src []uint16, n, k int) {
	for p := 0; p < k && n > 0; p += simd.AMXDepth {
		for r := range n {
			copy(dst[:simd.AMXDepth], src[r*k+p:])
			dst = dst[simd.AMXDepth:]
		}
	}
}

// GemmNTPacked computes y[m,n] = x[m,k]·W[n,k]ᵀ as GemmNTHalf does.
func GemmNTPacked(m int, x []float32, ldx int, w *Packed, y []float32, ldy int) {
	g := newPackedProduct(w, y, ldy)
	for i := 0; i < m; i += packedChunk {
		g.y = y[i*ldy:]
		g.run(min(packedChunk, m-i), w.n, x[i*ldx:], ldx)
	}
	g.Release()
}

// packedChunk is how many rows of x are split at a time.
const packedChunk = 256

// packedProduct is a product with weights in bfloat16, packed or not, by matrix instructions.
type packedProduct struct {
	amx            *simd.AMXKernels
	m, k, ldw, ldy int
	w              []uint16
	y              []float32
	serial         uint64 // tells one x from another
	x              []float32
	ldx            int
	all            *splitRows // x split, if there are many rows: each thread splits few by itself, which is faster than sharing them
	own            splitRows  // what all points to, unless another product with the same x has split it
}

// splitRows holds rows of x, split, AMXRows of them at a time.
type splitRows struct {
	x, planes []float32 // planes is scratch: what is split but not yet transposed
	serial    uint64    // of their product
}

var splits = sync.Pool{New: func() any { return new(splitRows) }}

var packedProducts = sync.Pool{New: func() any { return new(packedProduct) }}

func newPackedProduct(w *Packed, y []float32, ldy int) *packedProduct {
	g := packedProducts.Get().(*packedProduct)
	g.k, g.ldw, g.ldy, g.w, g.y, g.amx = w.k, simd.AMXPacked, ldy, w.data, y, w.amx
	return g
}

func (g *packedProduct) Release() {
	g.w, g.y, g.x, g.all = nil, nil, nil, nil
	packedProducts.Put(g)
}

// gemmNTAMX computes the part of GemmNTHalf for the first rows of W, a multiple of AMXRows, and returns how many they are.
func gemmNTAMX(h simd.Half, m, n, k int, x []float32, ldx int, w []uint16, ldw int, beta float32, y []float32, ldy int) int {
	n = n / simd.AMXRows * simd.AMXRows
	if simd.AMX() == nil || h != simd.BF16 || beta != 0 || m > simd.AMXRows || k%simd.AMXDepth != 0 || n*m*k == 0 {
		return 0
	}
	g := packedProducts.Get().(*packedProduct)
	g.k, g.ldw, g.ldy, g.w, g.y, g.amx = k, ldw, ldy, w, y, simd.AMX()
	g.run(m, n, x, ldx)
	g.Release()
	return n
}

// run splits m rows of x and multiplies them with n rows of w.
func (g *packedProduct) run(m, n int, x []float32, ldx int) {
	g.split(m, x, ldx)
	pool.Run(n, packedGrain(g.k), g)
}

// packedGrain returns how many rows of k weights make a task.
func packedGrain(k int) int { return pool.RoundUp(max(1, fewRowsWork/k), simd.AMXRowBlock) }

// split sets x to m rows, and splits them if they are many.
func (g *packedProduct) split(m int, x []float32, ldx int) {
	g.m, g.x, g.ldx, g.serial = m, x, ldx, products.Add(1)
	if m > simd.AMXRows {
		g.all = &g.own
		g.all.grow(g)
		pool.Run(g.k, pool.Evenly(g.k, max(simd.AMXDepth, pool.BlockElements/m), simd.AMXDepth), (*splitting)(g))
	}
}

func (s *splitRows) grow(g *packedProduct) {
	size := g.m * 3 * g.k / 2
	s.x, s.planes = memory.Grow(s.x, size), memory.Grow(s.planes, size)
}

// hold splits the rows of a product unless it holds them already. Meanwhile it prefetches the first weights.
func (s *splitRows) hold(g *packedProduct, weights simd.Prefetch) {
	const piece, perLine = 128, 16 // elements of a row at a time, and of all rows for each line that is prefetched
	if s.serial == g.serial {
		return
	}
	s.grow(g)
	for lo := 0; lo < g.k; lo += piece {
		hi := min(lo+piece, g.k)
		lines := pool.CeilDiv((hi-lo)*g.m, perLine)
		g.amx.Prefetch(lines, weights)
		weights.From += lines * weights.Stride
		g.amx.SplitRows(g.m, g.k, lo, hi, g.x, g.ldx, s.x, s.planes)
	}
	s.serial = g.serial
}

// splitting is packedProduct.split as tasks, of some elements of all rows.
type splitting packedProduct

func (g *splitting) Block(lo, hi int) {
	for i := 0; i < g.m; i += simd.AMXRows {
		at := i * 3 * g.k / 2
		g.amx.SplitRows(min(simd.AMXRows, g.m-i), g.k, lo, hi, g.x[i*g.ldx:], g.ldx, g.all.x[at:], g.all.planes[at:])
	}
}

func (g *packedProduct) Block(lo, hi int) {
	w, next := g.rows(lo)
	if g.m > simd.AMXRows {
		g.multiply(lo, hi, w, g.all.x, next)
		return
	}
	s := splits.Get().(*splitRows)
	s.hold(g, simd.Prefetch{Base: next.Base, Stride: next.Stride})
	g.multiply(lo, hi, w, s.x, next)
	splits.Put(s)
}

// multiply computes columns [lo,hi) of y for the rows w of the weights and x split.
func (g *packedProduct) multiply(lo, hi int, w []uint16, split []float32, next simd.Prefetch) {
	buffer := buffers.Get().(*[]float32)
	*buffer = memory.Grow(*buffer, (hi-lo)*simd.AMXRows)
	for i := 0; i < g.m; i += simd.AMXRows {
		m, x, y := min(simd.AMXRows, g.m-i), split[i*3*g.k/2:], g.y[i*g.ldy+lo:]
		if m == 1 {
			g.amx.Dots(hi-lo, g.k, 1, w, g.ldw, x, y, next)
			continue
		}
		g.amx.Dots(hi-lo, g.k, m, w, g.ldw, x, *buffer, next)
		simd.Gemm().PackT(y, *buffer, m, hi-lo, m, g.ldy)
	}
	buffers.Put(buffer)
}

// rows returns the weights from row i on, and what to prefetch meanwhile: for packed weights what comes soon, else the rows behind
// the current ones.
func (g *packedProduct) rows(i int) ([]uint16, simd.Prefetch) {
	const soon = 2048
	if g.ldw == simd.AMXPacked {
		w := g.w[i*g.k:]
		return w, simd.Prefetch{Base: (*byte)(unsafe.Pointer(&w[0])), From: soon, Stride: 64}
	}
	w := g.w[i*g.ldw:]
	return w, simd.Prefetch{Base: (*byte)(unsafe.Pointer(&w[0])), From: 2*simd.AMXRowBlock*g.ldw + soon, Stride: 64}
}
