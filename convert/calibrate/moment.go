package calibrate

import (
	"slices"

	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
	"gqa/internal/device"
	"gqa/internal/ops"
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

// add adds the rows [n, dim] of a batch, but for padding.
func (m *moment) add(rows device.Buffer, b ops.Batch) {
	dim := rows.Len() / len(b.IDs)
	rows, done := unpadded(m.device, rows, b)
	defer done()
	d, n := m.device, rows.Len()/dim
	if m.origin == nil {
		m.part, m.cross = d.New(device.F32, dim), d.New(device.F32, dim*dim)
		d.Clear(m.part)
		d.Clear(m.cross)
		d.SumRows(m.part, rows, n, dim)
		m.origin, m.sum = slices.Clone(d.Host(m.part)), make([]float64, dim)
		blas.Scale(m.origin, 1/float32(n))
		minus := slices.Clone(m.origin)
		blas.Scale(minus, -1)
		m.minus = d.Put(minus)
	}
	x := d.New(device.F32, rows.Len())
	defer d.Free(x)
	d.Copy(x, rows)
	d.AddRows(x, m.minus, n, dim)
	d.Gemm(true, false, dim, dim, n, 1, x, dim, x, dim, 1, m.cross, dim)
	d.Clear(m.part)
	d.SumRows(m.part, x, n, dim)
	for i, s := range d.Host(m.part) {
		m.sum[i] += float64(s)
	}
	m.n += n
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
