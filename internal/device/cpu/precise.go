package cpu

import (
	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/nn"
	"gqa/internal/device"
)

// precise is the CPU with float64 sums in forward passes. It is up to twenty times slower.
type precise struct{ *Device }

// Precise implements device.Preciser.
func (d *Device) Precise() device.Device { return precise{d} }

// Multiply implements device.Products.
func (p precise) Multiply(rows, k int, x device.Buffer, ps []device.Product) {
	for first := 0; first < rows && !p.stopped(); first += rowsAtOnce {
		n := min(rowsAtOnce, rows-first)
		for _, product := range ps {
			out := product.Y.F32()[first*product.N : (first+n)*product.N]
			blas.GemmNTF64(n, product.N, k, x.F32()[first*k:], product.W.F32(), out)
		}
	}
}

// RMSNorm implements device.Norms.
func (p precise) RMSNorm(y, inv, x, w device.Buffer, rows, dim int, eps float32) {
	if p.stopped() {
		return
	}
	nn.RMSNormRef(y.F32(), inv.F32(), x.F32(), w.F32(), rows, dim, eps)
}

// LayerNorm implements device.Norms.
func (p precise) LayerNorm(y, mean, inv, x, w, b device.Buffer, rows, dim int, eps float32) {
	if p.stopped() {
		return
	}
	nn.LayerNormRef(y.F32(), mean.F32(), inv.F32(), x.F32(), w.F32(), b.F32(), rows, dim, eps)
}

// AddRMSNorm implements device.Norms.
func (p precise) AddRMSNorm(y, inv, sum, x, z, w device.Buffer, rows, dim int, eps float32) {
	p.Add(sum, x, z)
	p.RMSNorm(y, inv, sum, w, rows, dim, eps)
}

// AddLayerNorm implements device.Norms.
func (p precise) AddLayerNorm(y, mean, inv, sum, x, z, w, b device.Buffer, rows, dim int, eps float32) {
	p.Add(sum, x, z)
	p.LayerNorm(y, mean, inv, sum, w, b, rows, dim, eps)
}

// Attend implements device.Attention, without lse.
func (p precise) Attend(s device.Scores, out device.Heads, _ device.Buffer, q, k, v device.Heads) {
	if !p.stopped() {
		nn.AttendF64(p.scores(s), view(out), view(q), view(k), view(v))
	}
}
