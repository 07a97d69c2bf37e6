package spago

import (
	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/internal/device"
)

// Tensor is what the engine computes with.
type Tensor = mat.Tensor

// Weight is a tensor that may be trained.
type Weight = nn.Param

// Constant is data [rows, cols] on the engine's device, which no gradient flows into.
func (e *Engine) Constant(data []float32, rows, cols int) Tensor {
	v := newValue(e.device, e.device.Put(data), rows, cols)
	v.frozen = true
	return v
}

// Trainable is data [rows, cols] on the engine's device: a weight that gradients flow into.
func (e *Engine) Trainable(data []float32, rows, cols int) *Weight {
	return &Weight{Matrix: newValue(e.device, e.device.Put(data), rows, cols)}
}

// Values are a tensor's elements on the host, for reading only. A result's may be the engine's until its next Reset or Backward.
func (e *Engine) Values(t Tensor) []float32 { return e.device.Host(valueOf(t).data) }

// SquaredError is scale·Σ(y - target)², a scalar.
func (e *Engine) SquaredError(y Tensor, target []float32, scale float32) Tensor {
	yv := valueOf(y)
	d := e.alloc(len(target))
	e.device.Copy(d, yv.data)
	e.device.Axpy(-1, e.device.Put(target), d)
	loss := e.sum(1, 1)
	e.device.Total(loss.data, scale, device.Term{X: d, Weight: 1, Squares: true})
	return e.record(loss, func(gy device.Buffer) {
		e.device.ScaleBy(d, gy)
		e.device.Scale(d, 2*scale)
		e.give(y, d)
	}, y)
}
