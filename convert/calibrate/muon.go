package calibrate

import (
	"math"

	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
)

// fitted is a weight [rows, cols] under descent. Matrices go by Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers
// in neural networks"), which steps as far in every direction that the gradient has; vectors by Adam (arXiv 1412.6980).
type fitted struct {
	param      *spago.Weight
	values     []float32 // the weight itself
	rows, cols int
	best       []float32
	m, v       []float32 // averages of the gradient and, for Adam, of its square
	size       float64   // root mean square at the start
}

const (
	momentum = 0.9
	beta2    = 0.98
)

func newFitted(values []float32, rows int) *fitted {
	cols := len(values) / rows
	return &fitted{values: values, rows: rows, cols: cols, param: spago.Trainable(values, rows, cols)}
}

func (x *fitted) matrix() bool { return x.rows > 1 && x.cols > 1 }

// begin forgets what was learned; the weight is as it is.
func (x *fitted) begin() {
	x.m, x.v = make([]float32, len(x.values)), nil
	if !x.matrix() {
		x.v = make([]float32, len(x.values))
	}
	x.size = math.Sqrt(kernels.SumSquares(x.values)/float64(len(x.values))) + 1e-12
}

// step goes down the gradient, by about rate times the weight's size; s counts from 1.
func (x *fitted) step(rate float64, s int) {
	defer x.param.ZeroGrad()
	g := spago.Grad(x.param)
	switch {
	case g == nil:
	case x.matrix():
		kernels.Scale(x.m, momentum)
		kernels.Axpy(1-momentum, g, x.m)
		kernels.Scale(g, 1-momentum)
		kernels.Axpy(momentum, x.m, g) // Nesterov's: a look ahead
		orthogonalise(g, x.rows, x.cols)
		// The root mean square of a matrix with singular values of 1 is one over the root of its longer side.
		kernels.Axpy(float32(-rate*x.size*math.Sqrt(float64(max(x.rows, x.cols)))), g, x.values)
	default:
		adam := kernels.AdamW{LR: rate * x.size, Beta1: momentum, Beta2: beta2, Eps: 1e-12}
		adam.Step(x.values, g, x.m, x.v, 1, s)
	}
}

// orthogonalise brings the singular values of g [rows, cols] near 1, in place, by five steps of a quintic iteration of
// Newton–Schulz's kind. Its coefficients (Jordan et al.) are for speed: the values end between 0.7 and 1.2.
func orthogonalise(g []float32, rows, cols int) {
	const a, b, c = 3.4445, -4.7750, 2.0315
	kernels.Scale(g, float32(1/(math.Sqrt(kernels.SumSquares(g))+1e-30)))
	n, tall := min(rows, cols), rows > cols
	square, poly, next := make([]float32, n*n), make([]float32, n*n), make([]float32, len(g))
	for range 5 {
		if tall { // gᵀ·g
			kernels.Gemm(true, false, n, n, rows, 1, g, cols, g, cols, 0, square, n)
		} else { // g·gᵀ
			kernels.Gemm(false, true, n, n, cols, 1, g, cols, g, cols, 0, square, n)
		}
		copy(poly, square)
		kernels.Gemm(false, false, n, n, n, c, square, n, square, n, b, poly, n)
		copy(next, g)
		if tall {
			kernels.Gemm(false, false, rows, cols, n, 1, g, cols, poly, n, a, next, cols)
		} else {
			kernels.Gemm(false, false, rows, cols, n, 1, poly, n, g, cols, a, next, cols)
		}
		copy(g, next)
	}
}
