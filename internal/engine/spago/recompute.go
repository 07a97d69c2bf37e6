package spago

import (
	"slices"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/device"
	"gqa/internal/ops"
)

var _ ops.Recomputer[mat.Tensor] = (*Engine)(nil)

// Recompute implements ops.Recomputer. The backward pass records f again as a graph of its own, whose inputs are copies of in that
// collect gradients, gives the result the gradient that it already has, and runs spago's backward pass on this graph.
func (e *Engine) Recompute(f func(in []mat.Tensor) mat.Tensor, in ...mat.Tensor) mat.Tensor {
	for _, t := range in {
		valueOf(t).ready()
	}
	live := e.live
	e.live = nil
	var y *value
	e.NoGrad(func() { y = valueOf(e.dense(f(in))).ready() })
	out := newValue(e.device, y.data, y.rows, y.cols)
	y.data = device.Buffer{} // it is out's now
	for _, v := range e.live {
		e.release(v)
	}
	e.live = live
	operands := in
	if !e.noGrad && !slices.ContainsFunc(in, func(t mat.Tensor) bool { return !valueOf(t).frozen }) {
		operands = append(slices.Clip(in), newValue(e.device, device.Buffer{}, 0, 0)) // f may read parameters with a gradient
	}
	return e.record(out, func(device.Buffer) { e.recompute(f, in, out) }, operands...)
}

// recompute adds to the gradients of in, and of the parameters that f reads, given that of out.
func (e *Engine) recompute(f func(in []mat.Tensor) mat.Tensor, in []mat.Tensor, out *value) {
	leaves := make([]mat.Tensor, len(in))
	for i, t := range in {
		v := valueOf(t)
		leaf := newValue(e.device, v.data, v.rows, v.cols)
		leaf.frozen = v.frozen
		leaves[i] = leaf
	}
	tape, live := e.tape, e.live
	e.tape, e.live = nil, nil
	y := e.dense(f(leaves)) // as in the forward pass; the gradient of columns would not reach the product
	if !valueOf(y).frozen {
		valueOf(y).adopt(out.grad, out.sharers)
		out.grad, out.sharers = device.Buffer{}, nil
		e.serialize(y)
		if err := ag.Backward(y); err != nil {
			panic(err) // only if y had no gradient
		}
	}
	e.Reset()
	e.tape, e.live = tape, live
	for i, t := range in {
		if leaf := valueOf(leaves[i]); !leaf.fresh {
			e.give(t, leaf.own())
		}
	}
}
