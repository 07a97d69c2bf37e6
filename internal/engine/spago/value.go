package spago

import (
	"github.com/nlpodyssey/spago/mat"
)

// value is a matrix of the graph with the gradient that flows into it. spago's own Dense clones the first gradient that it
// is given and adds the others under a lock; here an operator's backward writes or adds straight into the gradient's buffer
// (the tape runs one backward at a time, so no lock is needed).
type value struct {
	mat.Matrix // the data, as spago sees it
	data       []float32
	grad       []float32
	fresh      bool // grad holds nothing yet
	gradMatrix mat.Matrix
	frozen     bool // no gradient is wanted
	used       bool // by what the loss depends on
	padded     bool // Embed gives row padding no gradient
	padding    int32
}

var _ mat.Matrix = (*value)(nil)

// newValue wraps data [rows, cols] without copying it.
func newValue(data []float32, rows, cols int) *value {
	return &value{Matrix: mat.NewDense[float32](mat.WithShape(rows, cols), mat.WithBacking(data)), data: data, fresh: true}
}

func (v *value) rows() int { return v.Shape()[0] }
func (v *value) cols() int { return v.Shape()[1] }

// Value is the value itself.
func (v *value) Value() mat.Tensor { return v }

// Grad is the accumulated gradient, or nil.
func (v *value) Grad() mat.Tensor {
	if v.fresh {
		return nil
	}
	return v.gradMatrix
}

// HasGrad reports whether a gradient has been accumulated.
func (v *value) HasGrad() bool { return !v.fresh }

// RequiresGrad reports whether the backward pass should reach this value.
func (v *value) RequiresGrad() bool { return !v.frozen }

// SetRequiresGrad freezes or unfreezes the value.
func (v *value) SetRequiresGrad(b bool) { v.frozen = !b }

// ZeroGrad forgets the gradient; its buffer stays for the next step.
func (v *value) ZeroGrad() { v.fresh = true }

// AccGrad adds a gradient. An operator of this engine has already written it in place: then g is the gradient itself and
// there is nothing to add.
func (v *value) AccGrad(g mat.Tensor) {
	if !v.fresh && g == v.gradMatrix {
		return
	}
	from := mat.Data[float32](g)
	dst, beta := v.gradient(func(n int) []float32 { return make([]float32, n) })
	if beta == 0 {
		copy(dst, from)
		return
	}
	for i, x := range from {
		dst[i] += x
	}
}

// gradient returns the buffer to write this value's gradient into, and 0 if it holds nothing yet or 1 if what is written
// must be added to it.
func (v *value) gradient(alloc func(n int) []float32) (dst []float32, beta float32) {
	if !v.fresh {
		return v.grad, 1
	}
	if v.grad == nil {
		v.adopt(alloc(len(v.data)))
	}
	v.fresh = false
	return v.grad, 0
}

// adopt makes grad the gradient.
func (v *value) adopt(grad []float32) {
	v.grad, v.fresh = grad, false
	v.gradMatrix = mat.NewDense[float32](mat.WithShape(v.Shape()...), mat.WithBacking(grad))
}

// clearPadding drops the gradient of the rows that are padding.
func (v *value) clearPadding(gy []float32, ids []int32) {
	for i, id := range ids {
		if v.padded && id == v.padding {
			clear(gy[i*v.cols():][:v.cols()])
		}
	}
}
