package simd

// f64Rows is how many rows DotsF64 multiplies a vector with at a time.
const f64Rows = 4

// DotsF64 computes y[j] = Σ_p x[p]·w[j·ldw+p], in float64.
func DotsF64(y, x, w []float64, ldw int) {
	k, j := len(x), 0
	for ; j+f64Rows <= len(y); j += f64Rows {
		w0, w1, w2, w3 := w[j*ldw:][:k], w[(j+1)*ldw:][:k], w[(j+2)*ldw:][:k], w[(j+3)*ldw:][:k]
		var s0, s1, s2, s3 float64
		for p, v := range x {
			s0 += v * w0[p]
			s1 += v * w1[p]
			s2 += v * w2[p]
			s3 += v * w3[p]
		}
		y[j], y[j+1], y[j+2], y[j+3] = s0, s1, s2, s3
	}
	for ; j < len(y); j++ {
		row, sum := w[j*ldw:][:k], 0.0
		for p, v := range x {
			sum += v * row[p]
		}
		y[j] = sum
	}
}

// ToFloat64 converts x to dst.
func ToFloat64(dst []float64, x []float32) {
	for i, v := range x {
		dst[i] = float64(v)
	}
}

// ToFloat32 rounds x to dst.
func ToFloat32(dst []float32, x []float64) {
	for i, v := range x {
		dst[i] = float32(v)
	}
}
