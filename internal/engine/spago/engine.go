// Package spago is the engine that trains: it records a forward pass on github.com/nlpodyssey/spago's autograd graph through
// operators of our own, over whole matrices [tokens, dim], so that a model costs a few hundred operators, not millions.
package spago

import (
	"context"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/kernels"
	"gqa/internal/ops"
)

// Engine implements ops.Ops over spago tensors. It is for one goroutine.
type Engine struct {
	tape   []*node  // what a gradient may flow through, in the order recorded
	live   []*value // results of this step
	pool   map[int][][]float32
	memory kernels.Slab
	tables map[*ops.Rope]*kernels.RopeTable
	still  bool // no gradient is wanted of anything
	ctx    context.Context
}

var _ ops.Ops[mat.Tensor] = (*Engine)(nil)

// New returns an engine with an empty tape.
func New() *Engine {
	return &Engine{pool: map[int][][]float32{}, tables: map[*ops.Rope]*kernels.RopeTable{}, ctx: context.Background()}
}

// Until makes a pass end early once ctx is done: products and attention are skipped, and results mean nothing. Whoever runs
// the pass asks ctx.
func (e *Engine) Until(ctx context.Context) { e.ctx = ctx }

func (e *Engine) stopped() bool { return e.ctx.Err() != nil }

// gemm is kernels.Gemm, unless the pass is to end.
func (e *Engine) gemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if !e.stopped() {
		kernels.Gemm(transA, transB, m, n, k, 1, a, lda, b, ldb, beta, c, ldc)
	}
}

// Backward runs spago's backward pass from loss, a scalar, and clears the tape.
func (e *Engine) Backward(loss mat.Tensor) error {
	e.line(loss)
	err := ag.Backward(loss)
	e.Reset()
	return err
}

// Still runs f without a tape: nothing that it computes wants a gradient.
func (e *Engine) Still(f func()) {
	e.still = true
	defer func() { e.still = false }()
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

func (e *Engine) alloc(n int) []float32 {
	if free := e.pool[n]; len(free) > 0 {
		e.pool[n] = free[:len(free)-1]
		return free[len(free)-1]
	}
	return e.memory.Make(n)
}

func (e *Engine) free(s []float32) {
	if s != nil {
		e.pool[len(s)] = append(e.pool[len(s)], s)
	}
}

// release takes back a result's data and gradient; a second call does nothing.
func (e *Engine) release(v *value) {
	if v.data != nil {
		e.free(v.data)
		e.free(v.grad)
	}
	v.data, v.grad, v.fresh = nil, nil, true
}

func (e *Engine) result(rows, cols int) *value { return newValue(e.alloc(rows*cols), rows, cols) }
