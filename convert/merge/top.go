package merge

import (
	"context"
	"math"
	"math/rand/v2"

	"gqa/internal/cpu/blas"

	"gonum.org/v1/gonum/mat"
)

const (
	exactSize = 384  // up to this size a full eigendecomposition is fast
	topRounds = 60   // maximum number of iterations
	topGain   = 1e-6 // fraction of the eigenvalues' sum; a check that gains less stops the iteration
	topChecks = 5    // iterations between checks
)

// Top returns the eigenvectors of the k largest eigenvalues of s [n, n], symmetric and positive, as columns, and the
// eigenvalues, both in increasing order. For large matrices it uses subspace iteration with half as many vectors again
// (Halko et al., arXiv 0909.4061, section 4.5): any error is between nearly equal eigenvalues. It stops early, without
// a result, if ctx is done.
func Top(ctx context.Context, s []float32, n, k int) (*mat.Dense, []float64, bool) {
	if n <= exactSize || 3*k > n {
		return topExact(s, n, k)
	}
	p := k + k/2
	q, next := noiseMatrix(n*p), make([]float32, n*p)
	before := 0.0
	for round := 1; ; round++ {
		if ctx.Err() != nil {
			return nil, nil, false
		}
		blas.Gemm(false, false, n, p, n, 1, s, n, q, p, 0, next, p)
		check := round%topChecks == 0 || round == topRounds
		if !orthonormalise(next, n, p, q, check) {
			return nil, nil, false
		}
		if !check {
			continue
		}
		vectors, values, ok := ritz(s, q, n, p, k)
		sum := total(values)
		if !ok || round == topRounds || sum-before <= topGain*sum {
			return vectors, values, ok
		}
		before = sum
	}
}

// total returns the sum of values.
func total(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum
}

// topExact is Top by a full eigendecomposition.
func topExact(s []float32, n, k int) (*mat.Dense, []float64, bool) {
	m := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			m.SetSym(i, j, (float64(s[i*n+j])+float64(s[j*n+i]))/2)
		}
	}
	var eig mat.EigenSym
	if !eig.Factorize(m, true) {
		return nil, nil, false
	}
	var all mat.Dense
	eig.VectorsTo(&all)
	return all.Slice(0, n, n-k, n).(*mat.Dense), eig.Values(nil)[n-k:], true
}

// noiseMatrix returns the same noise each time, so that results are reproducible.
func noiseMatrix(n int) []float32 {
	r, x := rand.New(rand.NewPCG(1, 2)), make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// Shifts of the diagonal of products of columns whose lengths are one. What f32 rounds away may need the larger ones.
const leastShift, mostShift = 1e-6, 1e-2

// orthonormalise writes an orthonormal basis of the columns of y [n, p], which it overwrites, to q. It uses the
// Cholesky factor of their products, twice if the result must be exact, and again after a larger shift, which is needed if columns are
// nearly dependent (Fukaya et al., arXiv 1809.11085). It prevents such columns from growing.
func orthonormalise(y []float32, n, p int, q []float32, twice bool) bool {
	gram := make([]float32, p*p)
	blas.Gemm(true, false, p, p, n, 1, y, p, y, p, 0, gram, p)
	shift := leastShift
	for !invertFactor(gram, p, shift) {
		if shift *= 10; shift > mostShift {
			return false
		}
	}
	blas.Gemm(false, false, n, p, p, 1, y, p, gram, p, 0, q, p)
	if twice || shift > leastShift {
		copy(y, q)
		return orthonormalise(y, n, p, q, twice && shift > leastShift)
	}
	return true
}

// invertFactor replaces gram [p, p], the products of columns, by the inverse of its upper Cholesky factor, and reports
// whether there is one. It first scales the columns to one and adds shift to the diagonal.
func invertFactor(gram []float32, p int, shift float64) bool {
	size := make([]float64, p)
	for i := range size {
		size[i] = 1 / math.Max(math.Sqrt(float64(gram[i*p+i])), 1e-30)
	}
	var chol mat.Cholesky
	if !chol.Factorize(scaledProducts(gram, size, shift)) {
		return false
	}
	var upper, inverse mat.TriDense
	chol.UTo(&upper)
	if inverse.InverseTri(&upper) != nil {
		return false
	}
	for i := range p {
		for j := range p {
			gram[i*p+j] = 0
			if j >= i {
				gram[i*p+j] = float32(inverse.At(i, j) * size[i])
			}
		}
	}
	return true
}

// scaledProducts returns diag(size)·gram·diag(size), with shift added to the diagonal.
func scaledProducts(gram []float32, size []float64, shift float64) *mat.SymDense {
	p := len(size)
	products := mat.NewSymDense(p, nil)
	for i := range p {
		for j := i; j < p; j++ {
			products.SetSym(i, j, float64(gram[i*p+j])*size[i]*size[j])
		}
		products.SetSym(i, i, products.At(i, i)+shift)
	}
	return products
}

// ritz returns the best k eigenvectors of s in the span of the orthonormal columns of q [n, p], and their eigenvalues.
func ritz(s, q []float32, n, p, k int) (*mat.Dense, []float64, bool) {
	image, within := make([]float32, n*p), make([]float32, p*p)
	blas.Gemm(false, false, n, p, n, 1, s, n, q, p, 0, image, p)
	blas.Gemm(true, false, p, p, n, 1, q, p, image, p, 0, within, p)
	mix, values, ok := topExact(within, p, k)
	if !ok {
		return nil, nil, false
	}
	vectors := make([]float32, n*k)
	blas.Gemm(false, false, n, k, p, 1, q, p, single(mix), k, 0, vectors, k)
	return double(vectors, n, k), values, true
}

// single returns m in f32, row by row.
func single(m *mat.Dense) []float32 {
	r, c := m.Dims()
	all := make([]float32, 0, r*c)
	for i := range r {
		for _, x := range m.RawRowView(i) {
			all = append(all, float32(x))
		}
	}
	return all
}

// double returns x [rows, cols] as a matrix.
func double(x []float32, rows, cols int) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	for i := range rows {
		row := m.RawRowView(i)
		for j := range row {
			row[j] = float64(x[i*cols+j])
		}
	}
	return m
}
