package spago

import (
	"slices"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/device"
)

// node is an operator on the tape. spago starts each backward in its own goroutine as soon as its gradient is
// available; the tape makes them wait for their turn, last recorded first. The kernels use all cores anyway, sums have
// a fixed order regardless of scheduling, and a node's memory can be reused as soon as its backward is done.
type node struct {
	engine   *Engine
	operands []mat.Tensor
	out      *value
	backward func(gy device.Buffer)
	after    chan struct{} // closed when the node before this one in turn is done; nil for the first
	done     chan struct{}
}

var _ ag.AutoGradFunction = (*node)(nil)

// Operands returns the inputs that gradients flow into.
func (n *node) Operands() []mat.Tensor { return n.operands }

// Forward returns the result, which is computed by then or when it is first read.
func (n *node) Forward() (mat.Tensor, error) { return n.out, nil }

// Backward adds to the operands' gradients, given the gradient of the result.
func (n *node) Backward(mat.Tensor) error {
	if n.after != nil {
		<-n.after
	}
	if n.engine.trace != nil {
		n.engine.trace(true)
	}
	n.backward(n.out.grad)
	for _, operand := range n.operands {
		if v := valueOf(operand); !v.frozen {
			operand.AccGrad((*gradient)(v))
			if v.bucket != nil {
				n.engine.wrote(v)
			}
		}
	}
	n.engine.release(n.out)
	if n.engine.done != nil {
		n.engine.done()
	}
	close(n.done)
	return nil
}

// record puts an operator on the tape. Its result is computed, or is when it is first read (see value.ready).
func (e *Engine) record(out *value, backward func(gy device.Buffer), operands ...mat.Tensor) mat.Tensor {
	n := &node{engine: e, operands: operands, out: out, backward: backward}
	out.frozen = true
	for _, operand := range operands {
		v := valueOf(operand)
		out.frozen = out.frozen && (e.noGrad || v.frozen)
		if e.counting {
			v.uses++
		}
	}
	if !out.frozen {
		e.tape = append(e.tape, n)
		if e.trace != nil {
			e.trace(false)
		}
	}
	e.live = append(e.live, out)
	if e.done != nil {
		e.done()
	}
	return ag.NewOperator(n).Run()
}

// serialize makes the nodes that loss depends on run one after another. The others have no turn: spago never starts
// them.
func (e *Engine) serialize(loss mat.Tensor) {
	valueOf(loss).used = true
	var after chan struct{}
	for _, n := range slices.Backward(e.tape) {
		if !n.out.used {
			continue
		}
		for _, operand := range n.operands {
			valueOf(operand).used = true
		}
		n.after, n.done = after, make(chan struct{})
		after = n.done
	}
}

// valueOf returns a tensor's value, once its numbers are there.
func valueOf(t mat.Tensor) *value {
	v := t.Value().(*value)
	if v.late != nil {
		v.late()
	}
	return v
}

// into returns the buffer for an operand's gradient and whether to overwrite it (beta 0) or add to it (beta 1). ok is
// false if no gradient is required.
func (e *Engine) into(t mat.Tensor) (dst device.Buffer, beta float32, ok bool) {
	v := valueOf(t)
	if v.frozen {
		return device.Buffer{}, 0, false
	}
	dst, beta = v.written()
	return dst, beta, true
}

// give makes grad, a buffer of its own, an operand's gradient, or adds it to the existing one, which has the same format.
func (e *Engine) give(t mat.Tensor, grad device.Buffer) {
	v := valueOf(t)
	switch {
	case v.frozen:
		e.free(grad)
	case v.fresh && v.bucket != nil && v.bucket.direct: // its gradient has a place of its own
		dst, _ := v.written()
		e.device.Copy(dst, grad)
		e.free(grad)
	case v.fresh:
		e.free(v.grad)
		v.adopt(grad, nil)
	default:
		e.device.Axpy(1, grad, v.own())
		e.free(grad)
	}
}

// pass makes the gradient of z that of its operands x and y, or adds it to the one that they have. Operands without one share
// z's buffer.
func (e *Engine) pass(z, x, y *value) {
	sharers := z.sharers
	if sharers == nil {
		sharers = new(int)
		*sharers = 1
	}
	for _, v := range []*value{x, y} {
		switch {
		case v.frozen:
		case v.fresh && v.grad.None() && v.whole == nil:
			v.adopt(z.grad, sharers)
			*sharers++
		default:
			if dst, beta := v.written(); beta == 0 {
				e.device.Copy(dst, z.grad)
			} else {
				e.device.Axpy(1, z.grad, dst)
			}
		}
	}
	z.sharers = sharers // released with z
}

// addTo accumulates an operand's gradient using write, which can only overwrite.
func (e *Engine) addTo(t mat.Tensor, write func(dst device.Rows)) {
	dst, beta, ok := e.into(t)
	v := valueOf(t)
	switch {
	case !ok:
		return
	case beta == 0:
		write(v.all(dst))
	case v.whole != nil:
		panic("columns of a product are used twice")
	default:
		scratch := e.device.New(dst.Format(), dst.Len())
		write(v.all(scratch))
		e.device.Axpy(1, scratch, dst)
		e.free(scratch)
	}
}
