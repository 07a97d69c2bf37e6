package spago

import (
	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/mat/float"

	"gqa/internal/device"
)

// value is a matrix of the graph in a device's memory, with its gradient. spago requires a mat.Matrix: the embedded one
// is nil, and the methods that spago calls are implemented here. spago's own Dense would clone the first gradient that
// it receives and add the others under a lock; here an operator's backward writes or adds directly to the gradient's
// buffer (the tape runs one backward at a time, so no lock is needed).
type value struct {
	mat.Matrix
	device     device.Device
	data       device.Buffer
	compute    device.Buffer // of a weight: data in the format of activations, if that differs
	rows, cols int
	grad       device.Buffer
	fresh      bool // grad is empty
	frozen     bool // does not require a gradient
	used       bool // the loss depends on it
	padded     bool // Embed gives row padding no gradient
	padding    int32
}

var _ mat.Matrix = (*value)(nil)

// newValue wraps data [rows, cols] on a device.
func newValue(d device.Device, data device.Buffer, rows, cols int) *value {
	return &value{device: d, data: data, rows: rows, cols: cols, fresh: true}
}

// operand returns what a product reads.
func (v *value) operand() device.Buffer {
	if v.compute.None() {
		return v.data
	}
	return v.compute
}

// Shape returns [rows, cols].
func (v *value) Shape() []int { return []int{v.rows, v.cols} }

// Dims returns 2.
func (v *value) Dims() int { return 2 }

// Size returns the number of elements.
func (v *value) Size() int { return v.rows * v.cols }

// Data returns the elements, on the host.
func (v *value) Data() float.Slice { return float.Make(v.device.Host(v.data)...) }

// Item returns the single element of a scalar, on the host.
func (v *value) Item() float.Float { return float.Interface(v.device.Host(v.data)[0]) }

// NewScalar returns the gradient with which spago starts a backward pass.
func (*value) NewScalar(x float64, _ ...mat.OptionsFunc) mat.Matrix { return mat.Scalar(float32(x)) }

// Value returns the value itself.
func (v *value) Value() mat.Tensor { return v }

// Grad returns the accumulated gradient, or nil.
func (v *value) Grad() mat.Tensor {
	if v.fresh {
		return nil
	}
	return (*gradient)(v)
}

// gradient is a value's gradient as spago passes it on: only to show that there is one, not as numbers.
type gradient value

// Value returns the gradient itself.
func (g *gradient) Value() mat.Tensor { return g }

// Data returns the gradient's elements, on the host.
func (g *gradient) Data() float.Slice { return float.Make(g.device.Host(g.grad)...) }

// HasGrad reports whether a gradient has been accumulated.
func (v *value) HasGrad() bool { return !v.fresh }

// RequiresGrad reports whether the backward pass should reach this value.
func (v *value) RequiresGrad() bool { return !v.frozen }

// SetRequiresGrad freezes or unfreezes the value.
func (v *value) SetRequiresGrad(b bool) { v.frozen = !b }

// ZeroGrad drops the gradient but keeps its buffer for the next step.
func (v *value) ZeroGrad() { v.fresh = true }

// AccGrad adds a gradient. An operator of this engine has already written it in place: then g is the gradient itself
// and there is nothing to add.
func (v *value) AccGrad(g mat.Tensor) {
	if own, ok := g.(*gradient); ok && (*value)(own) == v {
		return
	}
	from := v.device.Put(mat.Data[float32](g))
	if dst, beta := v.written(); beta == 0 {
		v.device.Copy(dst, from)
	} else {
		v.device.Axpy(1, from, dst)
	}
}

// written returns the buffer for this value's gradient, and 0 if it must be overwritten or 1 if it must be added to.
func (v *value) written() (dst device.Buffer, beta float32) {
	if !v.fresh {
		return v.grad, 1
	}
	if v.grad.None() {
		v.grad = v.device.New(v.data.Format(), v.Size())
	}
	v.fresh = false
	return v.grad, 0
}

// adopt makes grad the gradient.
func (v *value) adopt(grad device.Buffer) { v.grad, v.fresh = grad, false }
