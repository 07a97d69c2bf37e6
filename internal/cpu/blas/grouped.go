package blas

import (
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// Product is y[m,N] = x[m,k]·W[N,k]ᵀ, one of several with the same x. Rows lie without gaps.
type Product struct {
	N      int
	Y      []float32
	W      []float32
	Half   []uint16 // instead of W unless Format is F32
	Format simd.Half
	Packed *Packed // instead of both unless nil
}

// GroupedGemmNT computes several products as Gemm, GemmNTHalf and GemmNTPacked do. It runs those of few rows as one job, so that
// threads wait for each other once, and a product too small to be divided does not leave others idle.
func GroupedGemmNT(m, k int, x []float32, ldx int, ps []Product) {
	packed, full := 0, 0
	for i := range ps {
		if ps[i].Packed != nil {
			packed++
		} else if ps[i].Format == simd.F32 {
			full++
		}
	}
	switch {
	case len(ps) < 2 || m*k == 0:
	case packed == len(ps) && m <= packedChunk:
		groupPacked(m, k, x, ldx, ps)
		return
	case full == len(ps) && m <= fewRows:
		groupFewRows(m, k, x, ldx, ps)
		return
	}
	for i := range ps {
		ps[i].multiply(m, k, x, ldx)
	}
}

func (p *Product) multiply(m, k int, x []float32, ldx int) {
	switch {
	case p.Packed != nil:
		GemmNTPacked(m, x, ldx, p.Packed, p.Y, p.N)
	case p.Format != simd.F32:
		GemmNTHalf(p.Format, m, p.N, k, x, ldx, p.Half, k, 0, p.Y, p.N)
	default:
		Gemm(false, true, m, p.N, k, 1, x, ldx, p.W, k, 0, p.Y, p.N)
	}
}

func groupFewRows(m, k int, x []float32, ldx int, ps []Product) {
	group, serial := pool.NewGroup(), products.Add(1)
	for i := range ps {
		g := gemms.Get().(*gemm)
		g.operands = operands{
			m: m, n: ps[i].N, k: k, alpha: 1, a: x, ars: ldx, acs: 1, b: ps[i].W, ldb: k, tb: true, c: ps[i].Y, ldc: ps[i].N,
		}
		g.acc, g.serial = false, serial
		group.Add((*fewRowsNT)(g), g.n, fewRowsGrain(k))
	}
	group.Run()
}

func groupPacked(m, k int, x []float32, ldx int, ps []Product) {
	group := pool.NewGroup()
	var first *packedProduct
	for i := range ps {
		g := newPackedProduct(ps[i].Packed, ps[i].Y, ps[i].N)
		if first == nil {
			first = g
			g.split(m, x, ldx)
		}
		g.m, g.x, g.ldx, g.serial, g.all = m, first.x, first.ldx, first.serial, first.all
		group.Add(g, ps[i].N, packedGrain(k))
	}
	group.Run()
}
