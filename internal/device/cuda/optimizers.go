//go:build cuda && linux

package cuda

import (
	"math"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// chunk is the number of numbers that a block of AdamW or of a sum takes. The kernels have it as CHUNK.
const chunk = 16384

// chunks returns the number of chunks of n numbers.
func chunks(n int) int { return (n + chunk - 1) / chunk }

// pair returns two floats as a word of a table.
func pair(a, b float64) uint64 { return cuda.Float(float32(a)) | cuda.Float(float32(b))<<32 }

// table copies words to the GPU's memory, which the caller must free.
func (d *Device) table(words []uint64) device.Buffer {
	b := d.New(device.F32, 2*len(words))
	if !d.stopped() {
		cuda.Send(d.gpu, b.Addr(), words)
	}
	return b
}

// ClipScale implements device.Optimizers.
func (d *Device) ClipScale(scale device.Buffer, limit float64, terms ...device.Term) device.Number {
	place := d.New(device.F32, 2)
	defer d.Free(place)
	d.sum(place.Addr(), terms)
	d.launch(optimSource, "clip_scale", cuda.Grid{Threads: 1}, addr(scale), addr(place), math.Float64bits(limit))
	return d.number(place)
}

// AdamW implements device.Optimizers.
func (d *Device) AdamW(steps []device.AdamWStep, scale device.Buffer, t int) {
	var coded, others []device.AdamWStep
	for _, s := range steps {
		if s.M.Format().Coded() {
			coded = append(coded, s)
		} else {
			others = append(others, s)
		}
	}
	d.adamw("adamw", others, scale, t, chunk)
	d.adamw("adamw_codes", coded, scale, t, device.BlockOf)
}

// adamw launches a kernel of AdamW, whose blocks take size numbers each.
func (d *Device) adamw(kernel string, steps []device.AdamWStep, scale device.Buffer, t, size int) {
	var words []uint64 // of a Step in optim.cu for each
	blocks, count := 0, 0
	for _, s := range steps {
		n := d.sameLength("AdamW", s.P, s.G, s.M, s.V)
		if !s.Copy.None() {
			d.sameLength("AdamW", s.P, s.Copy)
		}
		if n == 0 {
			continue
		}
		rsqrt, lr := 1/math.Sqrt(1-math.Pow(s.Beta2, float64(t))), s.LR/(1-math.Pow(s.Beta1, float64(t)))
		words = append(words, addr(s.P), addr(s.G), addr(s.M), addr(s.V), addr(s.MScales), addr(s.VScales), addr(s.Copy),
			uint64(s.P.Format()), uint64(s.G.Format()), uint64(s.M.Format()), uint64(s.Copy.Format()), uint64(n), uint64(blocks),
			pair(1-s.LR*s.Decay, 1-s.Beta1), pair(s.Beta2, 1-s.Beta2), pair(rsqrt, s.Eps), pair(lr, 0))
		blocks += (n + size - 1) / size
		count++
	}
	if count == 0 {
		return
	}
	table := d.table(words)
	defer d.Free(table)
	d.launch(optimSource, kernel, cuda.Grid{X: blocks, Threads: 256}, addr(table), uint64(count), addr(scale))
}

// Encode implements device.Optimizers.
func (d *Device) Encode(codes, scales, x device.Buffer) {
	if n := d.sameLength("encode", codes, x); n > 0 {
		d.launch(optimSource, "encode", cuda.Grid{X: scales.Len(), Threads: device.BlockOf}, addr(codes), addr(scales), addr(x), uint64(codes.Format()), uint64(n))
	}
}

// Decode implements device.Optimizers.
func (d *Device) Decode(x, codes, scales device.Buffer) {
	n := d.sameLength("decode", x, codes)
	d.each(optimSource, "decode", n, addr(x), addr(codes), addr(scales), uint64(codes.Format()), uint64(n))
}

// Muon implements device.Optimizers.
func (d *Device) Muon(steps []device.MuonStep, scale device.Buffer) {
	for _, s := range steps {
		d.muon(s, scale)
	}
}

// The number of steps of Muon's iteration, and the coefficients of its quintic polynomial (Jordan et al. 2024).
const (
	muonSteps           = 5
	muonA, muonB, muonC = 3.4445, -4.7750, 2.0315
)

func (d *Device) muon(s device.MuonStep, scale device.Buffer) {
	n := s.Rows * s.Cols
	d.each(optimSource, "muon_average", n, addr(s.G), addr(s.M), addr(scale), cuda.Float(float32(1-s.Momentum)), cuda.Float(float32(s.Momentum)), uint64(n))
	d.orthogonalise(s.G, s.Rows, s.Cols)
	size := s.LR * s.Size * math.Sqrt(float64(max(s.Rows, s.Cols)))
	d.each(optimSource, "muon_step", n, addr(s.P), addr(s.G), addr(scale), cuda.Float(float32(1-s.LR*s.Decay)), cuda.Float(float32(size)), uint64(n))
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
