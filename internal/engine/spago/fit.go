package spago

import (
	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"gqa/internal/device"
)

// Tensor is the engine's tensor type.
type Tensor = mat.Tensor

// Weight is a tensor that may be trained.
type Weight = nn.Param

// Constant returns data [rows, cols] on the engine's device, without a gradient.
func (e *Engine) Constant(data []float32, rows, cols int) Tensor {
	v := newValue(e.device, e.device.Put(data), rows, cols)
	v.frozen = true
	return v
}

// Trainable returns data [rows, cols] on the engine's device as a weight with a gradient.
func (e *Engine) Trainable(data []float32, rows, cols int) *Weight {
	return &Weight{Matrix: newValue(e.device, e.device.Put(data), rows, cols)}
}

// Values returns a tensor's elements on the host, read-only. Those of a result may become invalid at the next Reset or
// Backward.
func (e *Engine) Values(t Tensor) []float32 { return valueOf(t).host() }

// SquaredError returns scale·Σ(y - target)², a scalar.
func (e *Engine) SquaredError(y Tensor, target []float32, scale float32) Tensor {
	yv := valueOf(y).ready()
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
