package spago

import (
	"slices"

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
	rest       device.Buffer // of a weight in two parts: what compute lacks, and data is omitted; if both are, compute is the weight
	rows, cols int
	ld         int             // numbers from one row to the next: cols, unless the value is columns of another
	whole      *value          // the value that this one is columns of; nil: none
	first      int             // the first of these columns
	parts      []*value        // of a product by a joint: its columns
	addends    *[2]*value      // data is their sum, which is not computed yet; nil: it is not a sum, or it is computed
	product    func()          // computes data, a product; nil: it is not a product, or it is computed
	joint      *joint          // of a weight: the matrix that it is a part of; nil: none
	adapter    *adapter        // of a weight: the change that is trained instead of it; nil: none
	kept       []device.Buffer // what else the backward pass reads; released with data

	grad       device.Buffer
	gradFormat device.Format
	sharers    *int    // number of values with this gradient, if not nil
	fresh      bool    // there is no gradient: what grad holds is to be overwritten
	frozen     bool    // does not require a gradient
	used       bool    // the loss depends on it
	late       func()  // of a weight: waits until the numbers that other processes have changed are here; nil: they are
	bucket     *bucket // of a weight: those that it is summed with over processes; nil: there are no others
	unit       *unit   // of a weight: those that it is gathered with before it is used; nil: it is always here
	held       []*unit // of a product that is not computed yet: those that it reads
	uses       int     // of a weight with a bucket: operators of this pass that have it as an operand and have not run backward yet
	padded     bool    // Embed gives row padding no gradient
	padding    int32
}

var _ mat.Matrix = (*value)(nil)

// newValue wraps data [rows, cols] on a device.
func newValue(d device.Device, data device.Buffer, rows, cols int) *value {
	return &value{device: d, data: data, rows: rows, cols: cols, ld: cols, gradFormat: data.Format(), fresh: true}
}

// operand returns what a product reads.
func (v *value) operand() device.Buffer {
	if v.compute.None() {
		return v.data
	}
	return v.compute
}

// format returns the format of what a product reads.
func (v *value) format() device.Format {
	if v.unit != nil {
		return v.bucket.reads
	}
	return v.operand().Format()
}

// ready returns v after computing its data, if that has not been done yet. What nobody reads, such as the last product of a layer
// that is computed again for its gradients, is never computed.
func (v *value) ready() *value {
	switch {
	case v.addends != nil:
		v.device.Add(v.data, v.addends[0].ready().data, v.addends[1].ready().data)
		v.addends = nil
	case v.product != nil:
		v.product()
		v.product = nil
		v.letGo()
	}
	return v
}

// all returns the rows of a buffer of v's shape: its data, or its gradient.
func (v *value) all(b device.Buffer) device.Rows { return device.Rows{Buffer: b, LD: v.ld} }

// host returns the elements, on the host.
func (v *value) host() []float32 {
	if !v.data.None() {
		return v.device.Host(v.ready().data)
	}
	whole := v.device.New(device.F32, v.Size())
	defer v.device.Free(whole)
	v.whole32(whole)
	return v.device.Host(whole)
}

// whole32 copies the numbers of a weight to an F32 buffer.
func (v *value) whole32(to device.Buffer) {
	switch {
	case !v.data.None():
		v.device.Copy(to, v.data)
	case v.rest.None():
		v.device.Copy(to, v.compute)
	default:
		v.device.Join(to, v.compute, v.rest)
	}
}

// Shape returns [rows, cols].
func (v *value) Shape() []int { return []int{v.rows, v.cols} }

// Dims returns 2.
func (v *value) Dims() int { return 2 }

// Size returns the number of elements.
func (v *value) Size() int { return v.rows * v.cols }

// Data returns the elements, on the host.
func (v *value) Data() float.Slice { return float.Make(v.host()...) }

// Item returns the single element of a scalar, on the host.
func (v *value) Item() float.Float { return float.Interface(v.host()[0]) }

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

// ZeroGrad drops the gradient but keeps its buffer for the next step, unless it is shared.
func (v *value) ZeroGrad() {
	if v.fresh = true; v.sharers != nil {
		v.dropGrad()
	}
}

// AccGrad adds a gradient. An operator of this engine has already written it in place: then g is the gradient itself
// and there is nothing to add.
func (v *value) AccGrad(g mat.Tensor) {
	if own, ok := g.(*gradient); ok && (*value)(own) == v {
		return
	}
	x := mat.Data[float32](g)
	dst, beta := v.written()
	if beta == 0 {
		v.device.Write(dst, x)
		return
	}
	from := v.device.New(device.F32, len(x))
	v.device.Write(from, x)
	v.device.Axpy(1, from, dst)
	v.device.Free(from)
}

// written returns the buffer for this value's gradient, and 0 if it must be overwritten or 1 if it must be added to.
func (v *value) written() (dst device.Buffer, beta float32) {
	if !v.fresh {
		return v.own(), 1
	}
	v.fresh = false
	switch {
	case !v.grad.None():
	case v.whole != nil:
		v.whole.writtenByParts()
		v.grad = v.whole.grad.From(v.first)
	case v.bucket != nil && v.bucket.place(v):
	case v.joint != nil:
		v.joint.allocate(v.gradFormat)
	default:
		v.grad = v.device.New(v.gradFormat, v.Size())
	}
	return v.grad, 0
}

// writtenByParts allocates the gradient of a product, whose columns are then overwritten, each by its own value. Those that the
// loss does not depend on have no gradient.
func (v *value) writtenByParts() {
	if _, beta := v.written(); beta == 0 && slices.ContainsFunc(v.parts, func(p *value) bool { return !p.used }) {
		v.device.Clear(v.grad)
	}
}

// own returns the gradient after copying it if other values share it, so that it can be changed.
func (v *value) own() device.Buffer {
	if v.sharers == nil || *v.sharers == 1 {
		return v.grad
	}
	shared := v.grad
	v.grad = v.device.New(shared.Format(), shared.Len())
	v.device.Copy(v.grad, shared)
	*v.sharers--
	v.sharers = nil
	return v.grad
}

// adopt makes grad the gradient. If sharers is not nil, it counts the values that have the same one.
func (v *value) adopt(grad device.Buffer, sharers *int) {
	v.grad, v.sharers, v.fresh = grad, sharers, false
}

// forgetGrad frees a weight's gradient, and those of the other weights of its joint.
func (v *value) forgetGrad() {
	if v.bucket != nil && v.bucket.direct {
		v.bucket.forget()
		return
	}
	if v.joint == nil {
		v.dropGrad()
		return
	}
	v.device.Free(v.joint.grad)
	v.joint.grad = device.Buffer{}
	for _, p := range v.joint.parts {
		p.grad, p.fresh = device.Buffer{}, true
	}
}

// dropGrad frees the gradient's buffer, unless it belongs to other values too.
func (v *value) dropGrad() {
	switch {
	case v.whole != nil:
	case v.sharers != nil && *v.sharers > 1:
		*v.sharers--
	default:
		v.device.Free(v.grad)
	}
	v.grad, v.sharers, v.fresh = device.Buffer{}, nil, true
}
