package kernels

import (
	"sync"
	"unsafe"
)

// tilePath multiplies bfloat16 by matrix instructions. Their other factor is bfloat16 too: a float32 is split into three, of
// 8 bits each, that sum up to it, so products are exact and sums as precise as those of float32. Subnormal numbers count as
// zero, and an infinity that is split gives NaN.
type tilePath struct {
	// split writes src, a multiple of 16 long, as three rows of bfloat16 so many float32 apart.
	split func(dst []float32, plane int, src []float32)
	// dots is c[j·m+r] = Σ_p w[j·ldw+p]·x[r,p] for n rows j of w, a multiple of tileSize, m <= tileSize rows r and k elements
	// p, a multiple of tileDepth. x is split, in pairs of elements: three planes [k/2,m].
	dots func(n, k, m int, w []uint16, ldw int, x, c []float32, next lookahead)
	// weigh is o[r·ldo+x] += Σ_j p[r,j]·v[j·ldv+x] for the rows r, n keys j, a multiple of tileDepth, and tileColumns columns
	// x. p is split: three planes [rows,ldp]. The columns of o are in the order that unshuffle undoes.
	weigh func(n, rows int, p []float32, ldp int, v []uint16, ldv int, o []float32, ldo int, scratch *tileScratch, next lookahead)
}

const (
	tileSize    = 16 // rows of a tile
	tileDepth   = 32 // elements that one product of tiles sums
	tileColumns = 64 // columns that weigh takes at a time
)

// tileScratch is where weigh shuffles values to: twice 4 KiB from a multiple of 8 KiB on.
type tileScratch [4096]float32

func (s *tileScratch) aligned() *float32 {
	const size = 8 << 10
	return &s[-uintptr(unsafe.Pointer(s))%size/4]
}

// splitRows splits m rows of k elements into the planes that tilePath.dots reads.
func (t *tilePath) splitRows(m, k int, x []float32, ldx int, dst, scratch []float32) {
	half := k / 2
	for r := range m {
		t.split(scratch[r*half:], m*half, x[r*ldx:][:k])
	}
	for plane := range 3 {
		kern.packT(dst[plane*m*half:], scratch[plane*m*half:], half, m, half, m)
	}
}

// unshuffle puts the columns of a row that weigh has left in order.
func unshuffle(row []float32) {
	var from [32]float32
	for ; len(row) > 0; row = row[32:] {
		copy(from[:], row)
		for i := range 4 {
			*(*[4]float32)(row[8*i:]) = [4]float32(from[4*i:])
			*(*[4]float32)(row[8*i+4:]) = [4]float32(from[16+4*i:])
		}
	}
}

// tileProduct is a product of few rows with weights in bfloat16.
type tileProduct struct {
	m, k, ldw, ldy int
	w              []uint16
	y, x, planes   []float32
}

var tileProducts = sync.Pool{New: func() any { return new(tileProduct) }}

// tileGemmNT computes the first rows of W, a multiple of tileSize, of GemmNTHalf, and returns how many.
func tileGemmNT(h Half, m, n, k int, x []float32, ldx int, w []uint16, ldw int, beta float32, y []float32, ldy int) int {
	n = n / tileSize * tileSize
	if kern.tiles == nil || h != BF16 || beta != 0 || m > tileSize || k%tileDepth != 0 || n*m*k == 0 {
		return 0
	}
	g := tileProducts.Get().(*tileProduct)
	g.m, g.k, g.ldw, g.ldy, g.w, g.y = m, k, ldw, ldy, w, y
	g.x, g.planes = grown(g.x, 3*m*k/2), grown(g.planes, 3*m*k/2)
	kern.tiles.splitRows(m, k, x, ldx, g.x, g.planes)
	run(n, skinnyGrain(k), g)
	g.w, g.y = nil, nil
	tileProducts.Put(g)
	return n
}

func (g *tileProduct) block(lo, hi int) {
	n, w := hi-lo, g.w[lo*g.ldw:]
	next := lookahead{base: (*byte)(unsafe.Pointer(&w[0])), from: 2*tileSize*g.ldw + 2048}
	if g.m == 1 {
		kern.tiles.dots(n, g.k, 1, w, g.ldw, g.x, g.y[lo:], next)
		return
	}
	buffer := buffers.Get().(*[]float32)
	*buffer = grown(*buffer, n*g.m)
	kern.tiles.dots(n, g.k, g.m, w, g.ldw, g.x, *buffer, next)
	kern.packT(g.y[lo:], *buffer, g.m, n, g.m, g.ldy)
	buffers.Put(buffer)
}
