// Package spago is the training engine. It records a forward pass on the autograd graph of github.com/nlpodyssey/spago,
// using its own operators on whole matrices [tokens, dim], so that a model takes a few hundred operators rather than
// millions.
package spago

import (
	"context"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/device"
	"gqa/internal/ops"
)

// Engine implements ops.Ops over spago tensors in a device's memory. It must be used by one goroutine.
type Engine struct {
	device device.Device
	tape   []*node  // operators that gradients may flow through, in recording order
	live   []*value // results of this step
	ropes  map[*ops.Rope]device.Rope
	// outgrown are tables of rotations that larger ones have replaced since the last reset.
	outgrown []device.Rope
	noGrad   bool                // nothing requires a gradient
	counting bool                // operators are counted as uses of their operands: this is a step's forward pass
	wrote    func(weight *value) // if weights have buckets, called after an operator has written a weight's gradient
	done     func()              // if weights have units, called after every operator, forward and backward
	// observe, if not nil, is called after every linear layer.
	observe func(x, w, y mat.Tensor)
	// trace, if not nil, is called for every operator on the tape: when it is recorded, and by its Backward.
	trace func(backward bool)
}

var (
	_ ops.Ops[mat.Tensor]           = (*Engine)(nil)
	_ ops.GroupedLinear[mat.Tensor] = (*Engine)(nil)
	_ ops.PairRotator[mat.Tensor]   = (*Engine)(nil)
)

// New returns an engine with an empty tape that computes on d.
func New(d device.Device) *Engine {
	return &Engine{device: d, ropes: map[*ops.Rope]device.Rope{}}
}

// Device returns the device that the engine computes on.
func (e *Engine) Device() device.Device { return e.device }

// Until makes a pass end early once ctx is done; see device.Device. The caller must check ctx.
func (e *Engine) Until(ctx context.Context) { e.device.Until(ctx) }

// Observe sets a function to be called after every recorded linear layer, with its input, weight and result.
func (e *Engine) Observe(f func(x, w, y Tensor)) { e.observe = f }

// Backward runs spago's backward pass from loss, a scalar, and clears the tape.
func (e *Engine) Backward(loss mat.Tensor) error {
	e.serialize(loss)
	err := ag.Backward(loss)
	e.Reset()
	return err
}

// NoGrad runs f without a tape: its results do not require gradients.
func (e *Engine) NoGrad(f func()) {
	before := e.noGrad
	e.noGrad = true
	defer func() { e.noGrad = before }()
	f()
}

// Reset clears the tape and releases the memory of all results. Only copies of results remain valid.
func (e *Engine) Reset() {
	for _, v := range e.live {
		e.release(v)
	}
	for _, r := range e.outgrown {
		e.device.FreeRope(r)
	}
	e.outgrown = e.outgrown[:0]
	clear(e.tape) // nodes keep their operands alive
	e.live, e.tape = e.live[:0], e.tape[:0]
}

// Close clears the tape and frees the memory of results and of tables of rotations.
func (e *Engine) Close() {
	e.Reset()
	for key, r := range e.ropes {
		e.device.FreeRope(r)
		delete(e.ropes, key)
	}
}

// alloc returns memory for statistics and sums.
func (e *Engine) alloc(n int) device.Buffer { return e.device.New(device.F32, n) }

// activations returns memory for activations or their gradients.
func (e *Engine) activations(n int) device.Buffer { return e.device.New(e.device.Activations(), n) }

func (e *Engine) free(b device.Buffer) { e.device.Free(b) }

// release releases a result's data and gradient; calling it again has no effect.
func (e *Engine) release(v *value) {
	if v.whole == nil {
		e.free(v.data)
	}
	v.dropGrad()
	for _, b := range v.kept {
		e.free(b)
	}
	v.letGo()
	v.data, v.kept, v.addends, v.product = device.Buffer{}, nil, nil, nil
}

// keep returns memory for n statistics that is released with y.
func (e *Engine) keep(y *value, n int) device.Buffer {
	b := e.alloc(n)
	y.kept = append(y.kept, b)
	return b
}

func (e *Engine) result(rows, cols int) *value {
	return newValue(e.device, e.activations(rows*cols), rows, cols)
}

// sum is a result that stays in F32: a loss, or a bias that is added to scores.
func (e *Engine) sum(rows, cols int) *value {
	return newValue(e.device, e.alloc(rows*cols), rows, cols)
}
