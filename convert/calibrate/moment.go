package calibrate

import (
	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/nn"
)

// moment accumulates the mean and covariance of rows, relative to the first batch's mean rather than zero, so that a
// large mean does not cost f32 precision.
type moment struct {
	n      int
	origin []float32 // [dim]
	sum    []float64 // [dim], of the rows minus the origin
	cross  []float32 // [dim, dim], of their products
	scaled []float32 // a batch minus the origin
}

// add adds rows [n, dim].
func (m *moment) add(rows []float32, dim int) {
	n := len(rows) / dim
	if m.origin == nil {
		m.origin, m.sum, m.cross = make([]float32, dim), make([]float64, dim), make([]float32, dim*dim)
		nn.SumRows(m.origin, rows, n, dim)
		blas.Scale(m.origin, 1/float32(n))
	}
	m.scaled = append(m.scaled[:0], rows...)
	for r := range n {
		row := m.scaled[r*dim:][:dim]
		blas.Axpy(-1, m.origin, row)
		for i, x := range row {
			m.sum[i] += float64(x)
		}
	}
	blas.Gemm(true, false, dim, dim, n, 1, m.scaled, dim, m.scaled, dim, 1, m.cross, dim)
	m.n += n
}

// result returns the moment of all rows.
func (m *moment) result() *merge.Moment {
	dim, n := len(m.origin), float64(m.n)
	out := &merge.Moment{Mean: make([]float32, dim), Cov: m.cross}
	for i := range dim {
		out.Mean[i] = m.origin[i] + float32(m.sum[i]/n)
		for j := range dim {
			c := &out.Cov[i*dim+j]
			*c = float32(float64(*c)/n - m.sum[i]/n*m.sum[j]/n)
		}
	}
	return out
}
