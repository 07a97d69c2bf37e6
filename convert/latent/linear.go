package latent

import (
	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
)

// part returns n rows of l, from row first on. They share l's memory.
func part(l merge.Linear, first, n int) merge.Linear {
	p := merge.Linear{W: l.W[first*l.In : (first+n)*l.In], In: l.In}
	if l.Bias != nil {
		p.Bias = l.Bias[first : first+n]
	}
	return p
}

// newLinear returns zeros of that many rows, with a bias if one of the others has one.
func newLinear(rows int, others ...merge.Linear) merge.Linear {
	l := merge.Linear{W: make([]float32, rows*others[0].In), In: others[0].In}
	for _, of := range others {
		if of.Bias != nil {
			l.Bias = make([]float32, rows)
		}
	}
	return l
}

// apply adds m·l, with m [n, rows of l] of row stride ld, to the rows of dst from row first on.
func apply(dst merge.Linear, first int, m []float32, ld, n int, l merge.Linear) {
	rows := len(l.W) / l.In
	blas.Gemm(false, false, n, l.In, rows, 1, m, ld, l.W, l.In, 1, dst.W[first*l.In:], l.In)
	if l.Bias != nil {
		blas.Gemm(false, false, n, 1, rows, 1, m, ld, l.Bias, 1, 1, dst.Bias[first:], 1)
	}
}

// addRow adds f times row r of l to row at of dst.
func addRow(dst merge.Linear, at int, f float64, l merge.Linear, r int) {
	blas.Axpy(float32(f), l.W[r*l.In:][:l.In], dst.W[at*l.In:][:l.In])
	if l.Bias != nil {
		dst.Bias[at] += float32(f) * l.Bias[r]
	}
}

// scaleRow multiplies row r of l by f.
func scaleRow(l merge.Linear, r int, f float64) {
	blas.Scale(l.W[r*l.In:][:l.In], float32(f))
	if l.Bias != nil {
		l.Bias[r] *= float32(f)
	}
}

// scaleRows multiplies all rows of l by f.
func scaleRows(l merge.Linear, f float64) {
	blas.Scale(l.W, float32(f))
	blas.Scale(l.Bias, float32(f))
}

// transpose writes the transpose of src [rows, cols], of row stride ld, to dst [cols, rows].
func transpose(dst, src []float32, ld, rows, cols int) {
	for i := range rows {
		for j := range cols {
			dst[j*rows+i] = src[i*ld+j]
		}
	}
}

func identity(n int) []float32 {
	m := make([]float32, n*n)
	for i := range n {
		m[i*n+i] = 1
	}
	return m
}
