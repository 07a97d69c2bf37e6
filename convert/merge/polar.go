package merge

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"gqa/internal/cpu/blas"
)

// polar replaces m [dim, dim] by the nearest orthogonal matrix: U·Vᵀ of its singular value decomposition. It uses the
// Newton–Schulz iteration X ← X·(3 - XᵀX)/2 (Higham, Functions of Matrices, section 8.3), which needs only products, or
// the decomposition if m is nearly singular.
func polar(m []float32, dim int) {
	x, gram, next := make([]float32, len(m)), make([]float32, len(m)), make([]float32, len(m))
	copy(x, m)
	for step := range 40 {
		blas.Gemm(true, false, dim, dim, dim, 1, x, dim, x, dim, 0, gram, dim)
		if step == 0 { // scale so that no singular value exceeds one
			size := rowSum(gram, dim)
			if !(size > 0) || math.IsInf(size, 1) {
				break
			}
			blas.Scale(x, float32(1/math.Sqrt(size)))
			blas.Scale(gram, float32(1/size))
		}
		off := offIdentity(gram, dim)
		blas.Scale(gram, -0.5)
		for i := range dim {
			gram[i*dim+i] += 1.5
		}
		blas.Gemm(false, false, dim, dim, dim, 1, x, dim, gram, dim, 0, next, dim)
		x, next = next, x
		if off < 1e-4 { // this step has squared it
			copy(m, x)
			return
		}
	}
	polarBySVD(m, dim)
}

// rowSum returns the largest sum of absolute values in a row, a bound for the eigenvalues.
func rowSum(m []float32, dim int) float64 {
	most := 0.0
	for i := range dim {
		sum := 0.0
		for _, x := range m[i*dim:][:dim] {
			sum += math.Abs(float64(x))
		}
		if !(sum <= most) {
			most = sum
		}
	}
	return most
}

// offIdentity returns the distance of a matrix from the identity.
func offIdentity(m []float32, dim int) float64 {
	off := 0.0
	for i := range dim {
		for j, x := range m[i*dim:][:dim] {
			want := 0.0
			if i == j {
				want = 1
			}
			off = max(off, math.Abs(float64(x)-want))
		}
	}
	return off
}

func polarBySVD(m []float32, dim int) {
	var svd mat.SVD
	var u, v, r mat.Dense
	if !blas.Finite(m) || !svd.Factorize(double(m, dim, dim), mat.SVDFull) {
		r = *scaled(dim, 1) // Merge will report what is not finite
	} else {
		svd.UTo(&u)
		svd.VTo(&v)
		r.Mul(&u, v.T())
	}
	copy(m, single(&r))
}
