package blas

import (
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// small computes a product that is not worth dividing.
func (g *gemm) small() {
	a, ars, acs := g.a, g.ars, g.acs
	if g.alpha != 1 {
		g.packedA = memory.Grow(g.packedA, g.m*g.k)
		for i := range g.m {
			packScaled(g.packedA[i*g.k:][:g.k], a[i*ars:], acs, g.alpha)
		}
		a, ars, acs = g.packedA, g.k, 1
	}
	g.packedB = memory.Grow(g.packedB, pool.RoundUp(g.n, simd.Gemm().NR)*g.k)
	g.packB(g.packedB, 0, g.k, 0, g.n, simd.Gemm().NR)
	MultiplyPacked(g.m, g.n, g.k, a, ars, acs, g.packedB, g.c, g.ldc, g.acc)
}

// MultiplyPacked computes C[m,n] = A·B, or C += A·B if acc, with A[i,p] = a[i·ars+p·acs] and a B packed by Pack, on the calling thread.
func MultiplyPacked(m, n, k int, a []float32, ars, acs int, packed, c []float32, ldc int, acc bool) {
	kern := simd.Gemm()
	for j := 0; j < n; j += kern.NR {
		multiplyPanel(m, min(kern.NR, n-j), k, a, ars, acs, packed[j*k:], kern.NR, c[j:], ldc, acc)
	}
}

// multiplyPanel computes C[m,n] = A·B, or C += A·B if acc, for one panel B of n <= NR columns with rows bs apart.
func multiplyPanel(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	h := pool.Evenly(m, simd.Gemm().MR, 1) // a tile of few rows would leave the processor waiting for its sums
	for i := 0; i < m; i += h {
		simd.Gemm().Micro(min(h, m-i), n, k, a[i*ars:], ars, acs, b, bs, c[i*ldc:], ldc, acc)
	}
}
