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

// Constant returns data [rows, cols] on the engine's device, without a gradient. Unload frees its memory.
func (e *Engine) Constant(data []float32, rows, cols int) Tensor { return e.constant(data, rows, cols) }

func (e *Engine) constant(data []float32, rows, cols int) *value {
	v := newValue(e.device, e.device.Put(data), rows, cols)
	v.frozen = true
	return v
}

// Borrow returns memory of the device as a tensor [rows, cols] without a gradient. The memory remains the caller's.
func (e *Engine) Borrow(b device.Buffer, rows, cols int) Tensor {
	v := newValue(e.device, b, rows, cols)
	v.frozen = true
	return v
}

// FreeAtReset makes the next Reset free memory that this step reads.
func (e *Engine) FreeAtReset(b device.Buffer) {
	e.live = append(e.live, newValue(e.device, b, 1, b.Len()))
}

// Trainable returns data [rows, cols] on the engine's device as a weight with a gradient. Unload frees its memory.
func (e *Engine) Trainable(data []float32, rows, cols int) *Weight {
	return &Weight{Matrix: newValue(e.device, e.device.Put(data), rows, cols)}
}

// Unload frees the memory of a constant or of a trainable weight.
func (e *Engine) Unload(t Tensor) {
	v := valueOf(t)
	e.device.Unload(v.data)
	v.data = device.Buffer{}
	v.dropGrad()
}

// Values returns a tensor's elements on the host, read-only. Those of a result may become invalid at the next Reset or
// Backward.
func (e *Engine) Values(t Tensor) []float32 { return valueOf(t).host() }

// Copied returns a copy of a tensor's elements in the device's memory, which the caller must free.
func (e *Engine) Copied(t Tensor) device.Buffer {
	v := valueOf(e.dense(t)).ready()
	b := e.device.New(v.data.Format(), v.Size())
	e.device.Copy(b, v.data)
	return b
}

// SquaredError returns scale·Σ(y - target)², a scalar, also as a number that the device may still be computing.
func (e *Engine) SquaredError(y Tensor, target []float32, scale float32) (Tensor, device.Number) {
	b := e.device.Put(target)
	defer e.device.Unload(b)
	return e.SquaredErrorTo(y, b, scale)
}

// SquaredErrorTo is SquaredError for a target in the device's memory.
func (e *Engine) SquaredErrorTo(y Tensor, target device.Buffer, scale float32) (Tensor, device.Number) {
	y = e.dense(y)
	yv := valueOf(y).ready()
	d := e.alloc(target.Len())
	e.device.Copy(d, yv.data)
	e.device.Axpy(-1, target, d)
	loss := e.sum(1, 1)
	squares := device.Term{X: d, Weight: 1, Squares: true}
	e.device.Total(loss.data, scale, squares)
	sum := e.device.Sum(squares)
	number := func() float64 { return float64(float32(sum()) * scale) }
	if e.noGrad || yv.frozen {
		loss.kept = append(loss.kept, d)
	}
	return e.record(loss, func(gy device.Buffer) {
		e.device.ScaleBy(d, gy)
		e.device.Scale(d, 2*scale)
		e.give(y, d)
	}, y), number
}
