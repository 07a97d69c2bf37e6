// Package spago is the engine that trains: it records a forward pass on github.com/nlpodyssey/spago's autograd graph through
// operators of our own, over whole matrices [tokens, dim], so that a model costs a few hundred operators, not millions.
package spago

import (
	"context"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/device"
	"gqa/internal/ops"
)

// Engine implements ops.Ops over spago tensors in a device's memory. It is for one goroutine.
type Engine struct {
	device device.Device
	tape   []*node  // what a gradient may flow through, in the order recorded
	live   []*value // results of this step
	ropes  map[*ops.Rope]device.Rope
	noGrad bool // no gradient is wanted of anything
	// observe, if not nil, is called after every linear layer.
	observe func(x, w, y mat.Tensor)
}

var _ ops.Ops[mat.Tensor] = (*Engine)(nil)

// New returns an engine with an empty tape that computes on d.
func New(d device.Device) *Engine {
	return &Engine{device: d, ropes: map[*ops.Rope]device.Rope{}}
}

// Device is what the engine computes on.
func (e *Engine) Device() device.Device { return e.device }

// Until makes a pass end early once ctx is done; see device.Device. Whoever runs the pass asks ctx.
func (e *Engine) Until(ctx context.Context) { e.device.Until(ctx) }

// Observe has f called after every linear layer that is recorded, with what it read, its weight and its result.
func (e *Engine) Observe(f func(x, w, y Tensor)) { e.observe = f }

// Backward runs spago's backward pass from loss, a scalar, and clears the tape.
func (e *Engine) Backward(loss mat.Tensor) error {
	e.serialize(loss)
	err := ag.Backward(loss)
	e.Reset()
	return err
}

// NoGrad runs f without a tape: nothing that it computes wants a gradient.
func (e *Engine) NoGrad(f func()) {
	e.noGrad = true
	defer func() { e.noGrad = false }()
	f()
}

// Reset clears the tape and takes every result's memory back. Only what was copied out of results survives.
func (e *Engine) Reset() {
	for _, v := range e.live {
		e.release(v)
	}
	clear(e.tape) // nodes hold on to their operands
	e.live, e.tape = e.live[:0], e.tape[:0]
}

// alloc returns memory for statistics and sums.
func (e *Engine) alloc(n int) device.Buffer { return e.device.New(device.F32, n) }

// activations returns memory for activations or their gradients.
func (e *Engine) activations(n int) device.Buffer { return e.device.New(e.device.Activations(), n) }

func (e *Engine) free(b device.Buffer) { e.device.Free(b) }

// release takes back a result's data and gradient; a second call does nothing.
func (e *Engine) release(v *value) {
	e.free(v.data)
	e.free(v.grad)
	v.data, v.grad, v.fresh = device.Buffer{}, device.Buffer{}, true
}

func (e *Engine) result(rows, cols int) *value {
	return newValue(e.device, e.activations(rows*cols), rows, cols)
}

// sum is a result that stays in F32: a loss, or a bias that is added to scores.
func (e *Engine) sum(rows, cols int) *value {
	return newValue(e.device, e.alloc(rows*cols), rows, cols)
}
