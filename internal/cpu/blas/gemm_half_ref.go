package blas

import "gqa/internal/cpu/simd"

// GemmNTHalfRef is the definition of GemmNTHalf, summed in float64.
func GemmNTHalfRef(h simd.Half, m, n, k int, x []float32, ldx int, w []uint16, ldw int, beta float32, y []float32, ldy int) {
	for i := range m {
		for j := range n {
			sum := 0.0
			for p := range k {
				sum += float64(x[i*ldx+p]) * float64(h.Value(w[j*ldw+p]))
			}
			if beta != 0 {
				sum += float64(beta) * float64(y[i*ldy+j])
			}
			y[i*ldy+j] = float32(sum)
		}
	}
}
