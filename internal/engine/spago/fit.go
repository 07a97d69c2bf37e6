package spago

import (
	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/internal/kernels"
)

// Tensor is what the engine computes with.
type Tensor = mat.Tensor

// Weight is a tensor that may be trained.
type Weight = nn.Param

// Constant wraps data [rows, cols], which no gradient flows into, without copying it.
func Constant(data []float32, rows, cols int) Tensor {
	v := newValue(data, rows, cols)
	v.frozen = true
	return v
}

// Trainable wraps data [rows, cols] without copying it: a weight that gradients flow into.
func Trainable(data []float32, rows, cols int) *Weight {
	return &Weight{Matrix: newValue(data, rows, cols)}
}

// Values are a tensor's elements, shared. A result's are the engine's until its next Reset or Backward.
func Values(t Tensor) []float32 { return valueOf(t).data }

// SquaredError is scale·Σ(y - target)², a scalar.
func (e *Engine) SquaredError(y Tensor, target []float32, scale float32) Tensor {
	yv := valueOf(y)
	d := e.alloc(len(target))
	copy(d, yv.data)
	kernels.Axpy(-1, target, d)
	loss := newValue([]float32{scale * float32(kernels.SumSquares(d))}, 1, 1)
	return e.record(loss, func(gy []float32) {
		kernels.Scale(d, 2*scale*gy[0])
		e.give(y, d)
	}, y)
}
