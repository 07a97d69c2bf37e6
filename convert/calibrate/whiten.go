package calibrate

import (
	"context"
	"errors"

	"gonum.org/v1/gonum/mat"

	"gqa/convert/merge"
	"gqa/internal/kernels"
	"gqa/internal/ops"
)

// damping is added to the second moment before it is inverted, as a share of its mean: directions that the text hardly has
// are not blown up.
const damping = 1e-4

// whitening is a change of what attention reads to rows whose second moment is the identity: x = L·x̃ with L·Lᵀ that of x. In
// x̃ the error of a linear layer is as steep in every direction, which descent likes.
type whitening struct {
	dim          int
	root, invert []float32 // L and its inverse [dim, dim]
}

// newWhitening is that of rows with moment m.
func newWhitening(m *merge.Moment) (*whitening, error) {
	dim := len(m.Mean)
	second, trace := mat.NewSymDense(dim, nil), 0.0
	for i := range dim {
		for j := i; j < dim; j++ {
			second.SetSym(i, j, float64(m.Cov[i*dim+j])+float64(m.Mean[i])*float64(m.Mean[j]))
		}
		trace += second.At(i, i)
	}
	for i := range dim {
		second.SetSym(i, i, second.At(i, i)+damping*trace/float64(dim))
	}
	var chol mat.Cholesky
	if !chol.Factorize(second) {
		return nil, errors.New("what an attention reads of the calibration text is not finite; does the model have weights that are not?")
	}
	var root, inverse mat.TriDense
	chol.LTo(&root)
	if err := inverse.InverseTri(&root); err != nil {
		return nil, err
	}
	return &whitening{dim, single(&root), single(&inverse)}, nil
}

func single(m *mat.TriDense) []float32 {
	n, _ := m.Dims()
	all := make([]float32, n*n)
	for i := range n {
		for j := range i + 1 {
			all[i*n+j] = float32(m.At(i, j))
		}
	}
	return all
}

// inputs turns what is kept of the attention's inputs to x̃, rows of x times L⁻ᵀ.
func (h *whitening) inputs(ctx context.Context, w *Walk) error {
	return w.each(ctx, input, func(i int, _ ops.Batch, x []float32) error {
		return w.put(input, i, h.rows(x))
	})
}

// rows are x̃ of rows of x.
func (h *whitening) rows(x []float32) []float32 {
	white := make([]float32, len(x))
	kernels.Gemm(false, true, len(x)/h.dim, h.dim, h.dim, 1, x, h.dim, h.invert, h.dim, 0, white, h.dim)
	return white
}

// in turns a weight to one that reads x̃: W·L; out turns it back.
func (h *whitening) in(w []float32)  { h.multiply(w, h.root) }
func (h *whitening) out(w []float32) { h.multiply(w, h.invert) }

func (h *whitening) multiply(w, by []float32) {
	rows := len(w) / h.dim
	product := make([]float32, len(w))
	kernels.Gemm(false, false, rows, h.dim, h.dim, 1, w, h.dim, by, h.dim, 0, product, h.dim)
	copy(w, product)
}
