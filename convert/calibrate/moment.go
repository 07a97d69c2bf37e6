package calibrate

import (
	"slices"

	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/nn"
	"gqa/internal/device"
)

// moment accumulates the mean and covariance of rows, relative to the first batch's mean rather than zero, so that a
// large mean does not cost f32 precision.
type moment struct {
	device device.Device
	n      int
	origin []float32     // [dim]
	minus  device.Buffer // [dim], -origin
	sum    []float64     // [dim], of the rows minus the origin
	part   device.Buffer // [dim], of one batch
	cross  device.Buffer // [dim, dim], of their products
}

// add adds rows [n, dim].
func (m *moment) add(rows []float32, dim int) {
	d, n := m.device, len(rows)/dim
	if m.origin == nil {
		m.origin, m.sum = make([]float32, dim), make([]float64, dim)
		nn.SumRows(m.origin, rows, n, dim)
		blas.Scale(m.origin, 1/float32(n))
		minus := slices.Clone(m.origin)
		blas.Scale(minus, -1)
		m.minus, m.part, m.cross = d.Put(minus), d.New(device.F32, dim), d.New(device.F32, dim*dim)
		d.Clear(m.cross)
	}
	x := copied(d, rows)
	defer d.Free(x)
	d.AddRows(x, m.minus, n, dim)
	d.Gemm(true, false, dim, dim, n, 1, x, dim, x, dim, 1, m.cross, dim)
	d.Clear(m.part)
	d.SumRows(m.part, x, n, dim)
	for i, s := range d.Host(m.part) {
		m.sum[i] += float64(s)
	}
	m.n += n
}

// copied returns a copy of x in a device's memory.
func copied(d device.Device, x []float32) device.Buffer {
	b := d.New(device.F32, len(x))
	d.Write(b, x)
	return b
}

// result returns the moment of all rows, and frees its memory.
func (m *moment) result() *merge.Moment {
	dim, n := len(m.origin), float64(m.n)
	out := &merge.Moment{Mean: make([]float32, dim), Cov: slices.Clone(m.device.Host(m.cross))}
	m.device.Unload(m.minus)
	m.device.Free(m.part)
	m.device.Free(m.cross)
	for i := range dim {
		out.Mean[i] = m.origin[i] + float32(m.sum[i]/n)
		for j := range dim {
			c := &out.Cov[i*dim+j]
			*c = float32(float64(*c)/n - m.sum[i]/n*m.sum[j]/n)
		}
	}
	return out
}
