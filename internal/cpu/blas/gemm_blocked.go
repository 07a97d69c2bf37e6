package blas

import (
	"sync"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// blocked divides C into tasks. Each packs the blocks of B that it needs, so that they are in the second-level cache of the core that
// uses them and no thread waits for another. If factors are split and rows are many, B is split once for all threads.
func (g *gemm) blocked() {
	deepest := kc
	if g.acs != 1 { // longer runs of A's columns are read at a time instead
		deepest /= 2
	}
	g.depth = pool.Evenly(g.k, deepest, 8)
	tall, lane, widest := simd.Gemm().PanelRows, simd.Gemm().Lane, nc
	if g.byAMX() {
		g.depth, tall, lane, widest = pool.Evenly(g.k, blockDepth, simd.AMXBlock), simd.AMXBlock, simd.AMXBlock, blockColumns
	}
	g.nb, g.mb = pool.Evenly(g.n, widest, lane), g.m
	switch threads := pool.Threads(); {
	case threads == 1:
	case g.byAMX() && g.m >= max(rowsTogether, 2*simd.AMXBlock*threads):
		g.together(threads)
		return
	default:
		g.share(threads, tall, lane)
	}
	pool.Run(pool.CeilDiv(g.n, g.nb)*pool.CeilDiv(g.m, g.mb), 1, (*multiplying)(g))
}

// share makes tasks for a number of threads: four for each while a task has enough rows to be worth packing B for, and enough blocks
// of columns for each thread to have one or two.
func (g *gemm) share(threads, tall, lane int) {
	fewest := 256
	if g.depth < g.k { // B is packed for each task, not once for all tasks of a thread
		fewest = 512
	}
	columns := pool.CeilDiv(g.n, g.nb)
	rows := min(pool.CeilDiv(4*threads, columns), max(1, g.m/fewest))
	for rows*columns < threads && g.n > 64*columns || rows*columns < 2*threads && g.n > 256*columns {
		columns++
	}
	g.mb = pool.RoundUp(pool.CeilDiv(g.m, rows), tall)
	g.nb = pool.RoundUp(pool.CeilDiv(g.n, columns), lane)
}

// multiplying is a gemm as tasks.
type multiplying gemm

// gemmWork is the scratch of a task.
type gemmWork struct {
	a, b []float32
	held blockOfB // in b

	// Of products by matrix instructions: what is transposed before it is split, the end of a row, and a block at an edge.
	transposed []float32
	rest       [simd.AMXBlock]float32
	edge       [simd.AMXBlock * simd.AMXBlock]float32
}

type blockOfB struct {
	product uint64
	j, p    int
}

var gemmWorks = sync.Pool{New: func() any { return new(gemmWork) }}

func (t *multiplying) Block(lo, hi int) {
	g, w := (*gemm)(t), gemmWorks.Get().(*gemmWork)
	down, amx := pool.CeilDiv(g.m, g.mb), g.byAMX()
	for ; lo < hi; lo++ {
		i, j := lo%down*g.mb, lo/down*g.nb
		for p := 0; p < g.k; p += g.depth {
			i1, j1, p1 := min(i+g.mb, g.m), min(j+g.nb, g.n), min(p+g.depth, g.k)
			if amx {
				g.multiplyAMX(w, i, i1, j, j1, p, p1)
			} else {
				g.multiplyBlock(w, i, i1, j, j1, p, p1)
			}
		}
	}
	gemmWorks.Put(w)
}

// multiplyBlock computes rows [from,to) and columns [j,j1) of C, for the part [p,p1) of the sums.
func (g *gemm) multiplyBlock(w *gemmWork, from, to, j, j1, p, p1 int) {
	kern := simd.Gemm()
	if block := (blockOfB{g.serial, j, p}); w.held != block {
		g.packBlock(w, j, j1, p, p1)
		w.held = block
	}
	t := panelProduct{n: j1 - j, k: p1 - p, b: w.b, ldc: g.ldc, acc: g.acc || p > 0}
	for i := from; i < to; i += kern.PanelRows {
		t.m = min(kern.PanelRows, to-i)
		t.a = g.packedPanel(w, i-from, from, to, p, t.k)
		t.c = g.c[i*g.ldc+j:]
		t.ahead, t.lda = t.a, 0
		if next := i + kern.PanelRows; g.acs == 1 && next < to {
			t.ahead, t.lda = g.a[next*g.ars+p:], g.ars
		}
		t.multiply()
	}
}

// panelProduct is C[m,n] = A·B, or C += A·B if acc, for one packed panel A of m rows and a block B packed by packBlock. It
// prefetches rows of A at ahead, lda apart.
type panelProduct struct {
	m, n, k int
	a, b, c []float32
	ldc     int
	acc     bool
	ahead   []float32
	lda     int
}

func (t *panelProduct) multiply() {
	kern := simd.Gemm()
	wide, narrow := cut(t.n, kern.PanelColumns, kern.Lane)
	j := t.multiplyPanels(0, wide, kern.PanelColumns)
	j = t.multiplyPanels(j, narrow, kern.PanelColumns-kern.Lane)
	if j < t.n {
		kern.Micro(t.m, t.n-j, t.k, t.a, 1, t.m, t.b[j*t.k:], kern.NR, t.c[j:], t.ldc, t.acc)
	}
}

// multiplyPanels is multiply for a number of panels of B, of w columns each, from column j on. It returns the column behind them.
func (t *panelProduct) multiplyPanels(j, panels, w int) int {
	kern := simd.Gemm()
	end := j + panels*w
	if panels > 0 && t.m == kern.PanelRows && kern.Panel != nil {
		kern.Panel(w, panels, t.k, t.a, t.b[j*t.k:], t.c[j:], t.ldc, t.acc, t.ahead, t.lda)
		return end
	}
	for ; j < end; j += w {
		for x := 0; x < w; x += kern.NR {
			kern.Micro(t.m, min(kern.NR, w-x), t.k, t.a, 1, t.m, t.b[j*t.k+x:], w, t.c[j+x:], t.ldc, t.acc)
		}
	}
	return end
}

// cut divides n columns into panels of w columns, followed by panels of a lane less, with a rest below a lane. If n is too small for
// that, the rest is below two lanes.
func cut(n, w, lane int) (wide, narrow int) {
	lanes, each := n/lane, w/lane
	panels := pool.CeilDiv(lanes, each)
	if narrow = panels*each - lanes; each == 1 || narrow > panels {
		return lanes / each, 0
	}
	return panels - narrow, narrow
}
