//go:build cuda && linux

package cuda

import (
	"math"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// AdamW implements device.Optimizers.
func (d *Device) AdamW(o device.AdamW, p, g, m, v device.Buffer, scale float32, t int) {
	f := func(x float64) uint64 { return cuda.Float(float32(x)) }
	n := d.sameLength("AdamW", p, g, m, v)
	d.each(optimSource, "adamw", n, addr(p), addr(g), addr(m), addr(v), cuda.Float(scale), f(1-o.LR*o.Decay), f(1-o.Beta1), f(o.Beta2), f(1-o.Beta2),
		f(1/math.Sqrt(1-math.Pow(o.Beta2, float64(t)))), f(o.Eps), f(o.LR/(1-math.Pow(o.Beta1, float64(t)))), uint64(n))
}

// Muon implements device.Optimizers.
func (d *Device) Muon(steps []device.MuonStep, scale float32) {
	for _, s := range steps {
		d.muon(s, scale)
	}
}

// The number of steps of Muon's iteration, and the coefficients of its quintic polynomial (Jordan et al. 2024).
const (
	muonSteps           = 5
	muonA, muonB, muonC = 3.4445, -4.7750, 2.0315
)

func (d *Device) muon(s device.MuonStep, scale float32) {
	n := s.Rows * s.Cols
	d.each(optimSource, "muon_average", n, addr(s.G), addr(s.M), cuda.Float(float32(1-s.Momentum)*scale), cuda.Float(float32(s.Momentum)), uint64(n))
	d.orthogonalise(s.G, s.Rows, s.Cols)
	size := s.LR * s.Size * math.Sqrt(float64(max(s.Rows, s.Cols)))
	d.each(optimSource, "muon_step", n, addr(s.P), addr(s.G), cuda.Float(float32(1-s.LR*s.Decay)), cuda.Float(float32(size)), uint64(n))
}

// orthogonalise keeps the singular vectors of g [rows, cols] and brings its singular values close to 1 by the iteration X
// = (a + b·XXᵀ + c·(XXᵀ)²)·X.
func (d *Device) orthogonalise(g device.Buffer, rows, cols int) {
	total := d.New(device.F32, 2) // one 64-bit number
	d.sum(total.Addr(), []device.Term{{X: g, Weight: 1, Squares: true}})
	d.each(optimSource, "normalise", g.Len(), addr(g), addr(total), uint64(g.Len()))
	n, tall := min(rows, cols), rows > cols
	square, poly, next := d.New(device.F32, n*n), d.New(device.F32, n*n), d.New(device.F32, g.Len())
	for range muonSteps {
		d.Gemm(tall, !tall, n, n, max(rows, cols), 1, g, cols, g, cols, 0, square, n)
		d.Copy(poly, square)
		d.Gemm(false, false, n, n, n, muonC, square, n, square, n, muonB, poly, n)
		d.Copy(next, g)
		if tall {
			d.Gemm(false, false, rows, cols, n, 1, g, cols, poly, n, muonA, next, cols)
		} else {
			d.Gemm(false, false, rows, cols, n, 1, poly, n, g, cols, muonA, next, cols)
		}
		d.Copy(g, next)
	}
	for _, b := range []device.Buffer{total, square, poly, next} {
		d.Free(b)
	}
}
