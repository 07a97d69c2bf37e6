package kernels

import "sync"

// blocked cuts C in tasks: each packs the block of B that it needs for itself, so that it lies in the second-level cache of
// the core that uses it and no thread waits for another.
func (g *gemm) blocked() {
	deepest := kc
	if g.acs != 1 { // longer runs of A's columns are read at a time instead
		deepest /= 2
	}
	g.depth = evenly(g.k, deepest, 8)
	g.nb, g.mb = evenly(g.n, nc, kern.nr), g.m
	if Threads() > 1 {
		g.share(Threads())
	}
	run(ceilDiv(g.n, g.nb)*ceilDiv(g.m, g.mb), 1, (*multiplying)(g))
}

// share makes tasks for so many threads: four each while they have rows enough to be worth packing B for, and about as many
// columns as do for each thread to have one or two.
func (g *gemm) share(threads int) {
	fewest := 256
	if g.depth < g.k { // B is packed for each task, not once for all tasks of a thread
		fewest = 512
	}
	columns := ceilDiv(g.n, g.nb)
	rows := min(ceilDiv(4*threads, columns), max(1, g.m/fewest))
	for rows*columns < threads && g.n > 64*columns || rows*columns < 2*threads && g.n > 256*columns {
		columns++
	}
	g.mb = roundUp(ceilDiv(g.m, rows), kern.mr)
	g.nb = roundUp(ceilDiv(g.n, columns), kern.nr)
}

// multiplying is one task.
type multiplying gemm

// gemmWork is the scratch of a task.
type gemmWork struct {
	a, b []float32
	held blockOfB // in b
}

type blockOfB struct {
	product uint64
	j, p    int
}

var gemmWorks = sync.Pool{New: func() any { return new(gemmWork) }}

func (t *multiplying) block(lo, hi int) {
	g, w := (*gemm)(t), gemmWorks.Get().(*gemmWork)
	down := ceilDiv(g.m, g.mb)
	for ; lo < hi; lo++ {
		i, j := lo%down*g.mb, lo/down*g.nb
		for p := 0; p < g.k; p += g.depth {
			g.multiplyBlock(w, i, min(i+g.mb, g.m), j, min(j+g.nb, g.n), p, min(p+g.depth, g.k))
		}
	}
	gemmWorks.Put(w)
}

// multiplyBlock is rows [i,i1) and columns [j,j1) of C, for the part [p,p1) of the sums.
func (g *gemm) multiplyBlock(w *gemmWork, i, i1, j, j1, p, p1 int) {
	if block := (blockOfB{g.serial, j, p}); w.held != block {
		g.packBlock(w, j, j1, p, p1)
		w.held = block
	}
	k, acc := p1-p, g.acc || p > 0
	for ; i < i1; i += mc * kern.mr {
		rows, c := min(mc*kern.mr, i1-i), g.c[i*g.ldc+j:]
		if g.acs == 1 {
			multiplyPanels(rows, j1-j, k, g.a[i*g.ars+p:], g.ars, w.b, c, g.ldc, acc)
			continue
		}
		g.packPanels(w, i, rows, p, k)
		for r := 0; r < rows; r += kern.mr {
			h := min(kern.mr, rows-r)
			multiplyTiles(h, j1-j, k, w.a[r*k:], 1, h, w.b, c[r*g.ldc:], g.ldc, acc, w.a[r*k:])
		}
	}
}

// multiplyPanels is C[m,n] (+)= A·B, with the rows of A lda apart and B packed.
func multiplyPanels(m, n, k int, a []float32, lda int, b, c []float32, ldc int, acc bool) {
	for i := 0; i < m; i += kern.mr {
		ahead := a[min(i+kern.mr, m-1)*lda:]
		multiplyTiles(min(kern.mr, m-i), n, k, a[i*lda:], lda, 1, b, c[i*ldc:], ldc, acc, ahead)
	}
}

// multiplyTiles is the m <= mr rows of one panel of A times packed panels of B, n columns.
func multiplyTiles(m, n, k int, a []float32, ars, acs int, b, c []float32, ldc int, acc bool, ahead []float32) {
	j := 0
	if tiles := n / kern.nr; m == kern.mr && tiles > 0 && kern.panel != nil {
		kern.panel(tiles, k, a, ars, acs, b, c, ldc, acc, ahead)
		j = tiles * kern.nr
	}
	for ; j < n; j += kern.nr {
		kern.micro(m, min(kern.nr, n-j), k, a, ars, acs, b[j*k:], kern.nr, c[j:], ldc, acc)
	}
}
