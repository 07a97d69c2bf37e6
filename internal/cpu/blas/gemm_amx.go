package blas

import (
	"sync/atomic"

	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// Large products of float32 by matrix instructions. Each factor is the sum of three bfloat16, so a product of two numbers is a
// sum of nine. Six of them are large enough to show in a float32 and are computed: that is as precise as multiply-adds in float32,
// and there are 2.7 times as many per cycle. (The split is that of Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations", arXiv 1904.06376.)
const (
	blockDepth   = 128     // most elements of the sums at a time: a panel of A, 24 KiB, stays in the first-level cache
	blockColumns = 1024    // most columns of B at a time: 768 KiB stay in the second-level cache
	blockShare   = 1 << 20 // most float32 of B that are split for all threads at a time: 4 MiB
	rowsTogether = 256     // fewest rows of A for which threads wait for each other
)

// byAMX reports whether a product is large enough, and fills its blocks well enough, to be faster by matrix instructions.
func (g *gemm) byAMX() bool {
	return simd.AMX() != nil && min(g.m, g.n) >= 2*simd.AMXBlock && g.m*g.n >= 9*simd.AMXBlock*simd.AMXBlock &&
		5*g.m*g.n >= 4*pool.RoundUp(g.m, simd.AMXBlock)*pool.RoundUp(g.n, simd.AMXBlock)
}

// multiplyAMX is multiplyBlock by matrix instructions.
func (g *gemm) multiplyAMX(w *gemmWork, from, to, j, j1, p, p1 int) {
	panel := g.slice(p, p1)
	if block := (blockOfB{g.serial, j, p}); w.held != block {
		w.b = memory.Grow(w.b, pool.CeilDiv(j1-j, simd.AMXBlock)*panel)
		for c := j; c < j1; c += simd.AMXBlock {
			g.splitColumns(w, w.b[(c-j)/simd.AMXBlock*panel:], p, p1-p, c, min(simd.AMXBlock, j1-c))
		}
		w.held = block
	}
	g.multiplyRows(w, w.b, from, to, j, j1, p, p1)
}

// multiplyRows is multiplyAMX for a B that is split already.
func (g *gemm) multiplyRows(w *gemmWork, b []float32, from, to, j, j1, p, p1 int) {
	t, k, panel := simd.AMX(), p1-p, g.slice(p, p1)
	steps := panel / simd.AMXBlockFloats
	w.a = memory.Grow(w.a, panel)
	acc := g.acc || p > 0
	for i := from; i < to; i += simd.AMXBlock {
		m, c := min(simd.AMXBlock, to-i), g.c[i*g.ldc+j:]
		g.splitRows(w, i, m, p, k)
		whole := 0
		if m == simd.AMXBlock {
			whole = (j1 - j) / simd.AMXBlock
		}
		if whole > 0 {
			t.Panels(whole, steps, w.a, b, c, g.ldc, acc)
		}
		for x := whole * simd.AMXBlock; x < j1-j; x += simd.AMXBlock {
			t.Panels(1, steps, w.a, b[x/simd.AMXBlock*panel:], w.edge[:], simd.AMXBlock, false)
			storeEdge(c[x:], g.ldc, w.edge[:], m, min(simd.AMXBlock, j1-j-x), acc)
		}
	}
}

// storeEdge computes C[m,n] = E, or C += E if acc, for rows of E that are AMXBlock apart.
func storeEdge(c []float32, ldc int, e []float32, m, n int, acc bool) {
	for r := range m {
		to, from := c[r*ldc:][:n], e[r*simd.AMXBlock:][:n]
		if acc {
			simd.Add(to, to, from)
		} else {
			copy(to, from)
		}
	}
}

// splitRows splits elements [p,p+k) of rows [i,i+m) of op(A) into w.a. It leaves what is there for other rows.
func (g *gemm) splitRows(w *gemmWork, i, m, p, k int) {
	a, lda := g.a[i*g.ars+p*g.acs:], g.ars
	if g.acs != 1 {
		lda = pool.RoundUp(k, simd.AMXBlock)
		w.transposed = memory.Grow(w.transposed, simd.AMXBlock*lda)
		simd.Gemm().PackT(w.transposed, a, g.acs, k, m, lda)
		a = w.transposed
	}
	for r := range m {
		splitRow(w, a[r*lda:][:k], w.a[r*simd.AMXLine:], simd.AMXBlock*lda)
	}
}

// splitRow splits one row, padded with zeros to whole steps.
func splitRow(w *gemmWork, row, dst []float32, ahead int) {
	steps := len(row) / simd.AMXBlock
	if steps > 0 {
		simd.AMX().PackRow(steps, row, dst, ahead)
	}
	if rest := row[steps*simd.AMXBlock:]; len(rest) > 0 {
		clear(w.rest[copy(w.rest[:], rest):simd.AMXBlock])
		simd.AMX().PackRow(1, w.rest[:], dst[steps*simd.AMXBlockFloats:], ahead)
	}
}

// splitColumns splits alpha times rows [p,p+k) of columns [j,j+n) of op(B) into a panel.
func (g *gemm) splitColumns(w *gemmWork, dst []float32, p, k, j, n int) {
	steps := k / simd.AMXBlock
	if !g.tb && g.half == simd.F32 && n == simd.AMXBlock {
		if steps > 0 {
			simd.AMX().PackPairs(steps, g.b[p*g.ldb+j:], g.ldb, g.alpha, dst)
		}
		if done := steps * simd.AMXBlock; done < k {
			g.gather(w, p+done, k-done, j, n)
			simd.AMX().PackPairs(1, w.transposed, simd.AMXBlock, g.alpha, dst[steps*simd.AMXBlockFloats:])
		}
		return
	}
	g.gather(w, p, k, j, n)
	simd.AMX().PackPairs(pool.CeilDiv(k, simd.AMXBlock), w.transposed, simd.AMXBlock, g.alpha, dst)
}

// gather copies rows [p,p+k) of columns [j,j+n) of op(B) to w.transposed, [k,AMXBlock], padded with rows of zeros to whole steps.
func (g *gemm) gather(w *gemmWork, p, k, j, n int) {
	w.transposed = memory.Grow(w.transposed, pool.RoundUp(k, simd.AMXBlock)*simd.AMXBlock)
	switch {
	case g.half != simd.F32:
		g.packHalf(w.transposed, p, k, j, n, simd.AMXBlock)
	case g.tb:
		simd.Gemm().PackT(w.transposed, g.b[j*g.ldb+p:], g.ldb, n, k, simd.AMXBlock)
	default:
		CopyRows(w.transposed, simd.AMXBlock, g.b[p*g.ldb+j:], g.ldb, k, n)
	}
	clear(w.transposed[k*simd.AMXBlock : pool.RoundUp(k, simd.AMXBlock)*simd.AMXBlock])
}

// together is blocked for factors that are split. Splitting is a seventh of the work of a product of a thousand rows, so the threads
// split a part of B for all of them, each panel once, and then multiply blocks of A's rows by it, several for each thread. The sums
// are those of one thread.
func (g *gemm) together(threads int) {
	blocks := pool.CeilDiv(g.m, simd.AMXBlock)
	g.each = pool.CeilDiv(blocks, threads)
	if cap(g.done) < blocks {
		g.done = make([]atomic.Int32, blocks)
	}
	g.done = g.done[:blocks]
	for g.j = 0; g.j < g.n; g.j += g.nb {
		g.jEnd = min(g.j+g.nb, g.n)
		panels := g.panels()
		whole := panels * g.slice(0, g.depth) // float32 for each depth of the sums
		deep := max(1, blockShare/whole) * g.depth
		for g.p = 0; g.p < g.k; g.p = g.pEnd {
			g.pEnd = min(g.k, g.p+deep)
			g.parts = pool.CeilDiv(g.pEnd-g.p, g.depth)
			g.packedB = memory.Grow(g.packedB, g.parts*whole)
			pool.Run(g.parts*panels, 4, (*splittingB)(g))
			for i := range g.done {
				g.done[i].Store(0)
			}
			pool.RunOn(threads, threads*g.each*g.parts, 1, (*multiplyingRows)(g)) // a share is the rows of one thread
		}
	}
}

// slice returns how many float32 elements [p,p1) of a panel take when split.
func (g *gemm) slice(p, p1 int) int { return pool.CeilDiv(p1-p, simd.AMXBlock) * simd.AMXBlockFloats }

// panels returns how many panels of B are split together, for each depth of the sums.
func (g *gemm) panels() int { return pool.CeilDiv(g.jEnd-g.j, simd.AMXBlock) }

// part returns panel i of those that are split together: its columns, its elements of the sums, and its memory.
func (g *gemm) part(i int) (c, c1, p, p1 int, at []float32) {
	panels := g.panels()
	c, p = g.j+i%panels*simd.AMXBlock, g.p+i/panels*g.depth
	p1 = min(p+g.depth, g.pEnd)
	return c, min(c+simd.AMXBlock, g.jEnd), p, p1, g.packedB[i/panels*panels*g.slice(0, g.depth)+i%panels*g.slice(p, p1):]
}

// splittingB is the splitting of these panels as tasks.
type splittingB gemm

func (t *splittingB) Block(lo, hi int) {
	g, w := (*gemm)(t), gemmWorks.Get().(*gemmWork)
	for ; lo < hi; lo++ {
		c, c1, p, p1, dst := g.part(lo)
		g.splitColumns(w, dst, p, p1-p, c, c1-c)
	}
	gemmWorks.Put(w)
}

// multiplyingRows has a task for each block of A's rows and each depth of the sums, for the part of B that is split. A thread
// multiplies all rows of its share by one depth before it goes on to the next, so that what it reads of B stays in its cache. Tasks
// are short, so that threads that are done help one that other programs hold up.
type multiplyingRows gemm

func (t *multiplyingRows) Block(lo, hi int) {
	g, w := (*gemm)(t), gemmWorks.Get().(*gemmWork)
	for ; lo < hi; lo++ {
		part := lo / g.each % g.parts
		row := lo/(g.each*g.parts)*g.each + lo%g.each
		if row >= len(g.done) {
			continue
		}
		pool.WaitAtLeast(&g.done[row], int32(part)) // another thread is at it, or was when its core was taken from it
		_, _, p, p1, b := g.part(part * g.panels())
		g.multiplyRows(w, b, row*simd.AMXBlock, min((row+1)*simd.AMXBlock, g.m), g.j, g.jEnd, p, p1)
		g.done[row].Store(int32(part + 1))
	}
	gemmWorks.Put(w)
}
