package spago

import (
	"cmp"

	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/kernels"
	"gqa/internal/ops"
)

// Embed gathers rows of table: y[i] = table[first+ids[i]].
func (e *Engine) Embed(table mat.Tensor, ids []int32, first int) mat.Tensor {
	t := valueOf(table)
	y := e.result(len(ids), t.cols())
	kernels.Gather(y.data, t.data[first*t.cols():], ids, t.cols())
	return e.record(y, func(gy []float32) {
		if dst := e.zeroed(table); dst != nil {
			t.clearPadding(gy, ids)
			kernels.ScatterAdd(dst[first*t.cols():], gy, ids, t.cols())
		}
	}, table)
}

// Linear is y = x·Wᵀ + b: dx = gy·W, dW = gyᵀ·x, db = Σ gy.
func (e *Engine) Linear(x mat.Tensor, w ops.Linear[mat.Tensor]) mat.Tensor {
	xv, wv := valueOf(x), valueOf(w.W)
	n, in, out := xv.rows(), xv.cols(), wv.rows()
	y := e.result(n, out)
	e.gemm(false, true, n, out, in, xv.data, in, wv.data, in, 0, y.data, out)
	operands := []mat.Tensor{x, w.W}
	if w.HasBias {
		kernels.AddRows(y.data, valueOf(w.Bias).data, n, out)
		operands = append(operands, w.Bias)
	}
	return e.record(y, func(gy []float32) {
		if dx, beta, ok := e.into(x); ok {
			e.gemm(false, false, n, in, out, gy, out, wv.data, in, beta, dx, in)
		}
		if dw, beta, ok := e.into(w.W); ok {
			e.gemm(true, false, out, in, n, gy, out, xv.data, in, beta, dw, in)
		}
		if w.HasBias {
			if db := e.zeroed(w.Bias); db != nil {
				kernels.SumRows(db, gy, n, out)
			}
		}
	}, operands...)
}

// zeroed is an operand's gradient ready to be added to: zeros if it held nothing; nil where none is wanted.
func (e *Engine) zeroed(t mat.Tensor) []float32 {
	dst, beta, ok := e.into(t)
	if ok && beta == 0 {
		kernels.Clear(dst)
	}
	return dst
}

// Norm normalises every row, or every piece of Dim numbers.
func (e *Engine) Norm(x mat.Tensor, n ops.Norm[mat.Tensor]) mat.Tensor {
	if n.Layer {
		return e.layerNorm(x, n)
	}
	xv, rows, dim := normed(x, n)
	w, operands := e.normWeight(n)
	y, inv := e.result(xv.rows(), xv.cols()), e.alloc(rows)
	kernels.RMSNorm(y.data, inv, xv.data, w, rows, dim, n.Eps)
	return e.record(y, func(gy []float32) {
		var dw []float32
		if n.HasW {
			dw = e.zeroed(n.W)
		}
		e.written(x, len(xv.data), func(dx []float32) {
			kernels.RMSNormBackward(dx, dw, gy, xv.data, w, inv, rows, dim)
		})
		e.free(inv)
	}, append(operands, x)...)
}

// normed is what a norm sees: the rows, or their pieces, of x.
func normed(x mat.Tensor, n ops.Norm[mat.Tensor]) (v *value, rows, dim int) {
	v = valueOf(x)
	dim = cmp.Or(n.Dim, v.cols())
	return v, len(v.data) / dim, dim
}

// normWeight is what a norm multiplies with, nil for ones, and the parameter that it is made of.
func (e *Engine) normWeight(n ops.Norm[mat.Tensor]) ([]float32, []mat.Tensor) {
	if !n.HasW {
		return nil, nil
	}
	w := valueOf(n.W)
	if n.Offset == 0 {
		return w.data, []mat.Tensor{n.W}
	}
	moved := e.result(w.rows(), w.cols())
	kernels.Shift(moved.data, w.data, n.Offset)
	e.live = append(e.live, moved)
	return moved.data, []mat.Tensor{n.W}
}

func (e *Engine) layerNorm(x mat.Tensor, n ops.Norm[mat.Tensor]) mat.Tensor {
	xv, rows, dim := normed(x, n)
	w, operands := e.normWeight(n)
	var b []float32
	if n.HasBias {
		b = valueOf(n.Bias).data
		operands = append(operands, n.Bias)
	}
	y, mean, inv := e.result(xv.rows(), xv.cols()), e.alloc(rows), e.alloc(rows)
	kernels.LayerNorm(y.data, mean, inv, xv.data, w, b, rows, dim, n.Eps)
	return e.record(y, func(gy []float32) {
		var dw, db []float32
		if n.HasW {
			dw = e.zeroed(n.W)
		}
		if n.HasBias {
			db = e.zeroed(n.Bias)
		}
		e.written(x, len(xv.data), func(dx []float32) {
			kernels.LayerNormBackward(dx, dw, db, gy, xv.data, w, mean, inv, rows, dim)
		})
		e.free(mean)
		e.free(inv)
	}, append(operands, x)...)
}

// written is addTo for a kernel that must run even where its first result is not wanted, for the sake of the others.
func (e *Engine) written(t mat.Tensor, n int, write func(dst []float32)) {
	if !valueOf(t).frozen {
		e.addTo(t, write)
		return
	}
	scratch := e.alloc(n)
	write(scratch)
	e.free(scratch)
}

// Rotate turns the planes of every head by its row's position; the gradient turns back.
func (e *Engine) Rotate(x mat.Tensor, r *ops.Rope, pos []int32, heads, headDim int) mat.Tensor {
	table := e.table(r.For(pos), pos)
	xv := valueOf(x)
	y := e.result(xv.rows(), xv.cols())
	table.Rotate(y.data, xv.data, pos, heads, headDim, false)
	return e.record(y, func(gy []float32) {
		e.addTo(x, func(dx []float32) { table.Rotate(dx, gy, pos, heads, headDim, true) })
	}, x)
}

func (e *Engine) table(r *ops.Rope, pos []int32) *kernels.RopeTable {
	need := r.Positions
	for _, p := range pos {
		need = max(need, int(p)+1)
	}
	if t := e.tables[r]; t != nil && t.Positions() >= need {
		return t
	}
	e.tables[r] = kernels.NewRopeTable(r.InvFreq, need, r.Scale, r.Interleaved)
	return e.tables[r]
}

// Activate applies a non-linearity.
func (e *Engine) Activate(x mat.Tensor, act ops.Activation) mat.Tensor {
	f, xv := kernels.ActivationOf(string(act)), valueOf(x)
	y := e.result(xv.rows(), xv.cols())
	kernels.Activate(f, y.data, xv.data)
	return e.record(y, func(gy []float32) {
		e.addTo(x, func(dx []float32) { kernels.ActivateBackward(f, dx, gy, xv.data) })
	}, x)
}

// Gate is act(gate) * up.
func (e *Engine) Gate(gate, up mat.Tensor, act ops.Activation) mat.Tensor {
	f, g, u := kernels.ActivationOf(string(act)), valueOf(gate), valueOf(up)
	y := e.result(g.rows(), g.cols())
	kernels.Gate(f, y.data, g.data, u.data)
	return e.record(y, func(gy []float32) {
		e.written(gate, len(g.data), func(dg []float32) {
			e.written(up, len(u.data), func(du []float32) { kernels.GateBackward(f, dg, du, gy, g.data, u.data) })
		})
	}, gate, up)
}

// Add is x + y. What flows back into the sum becomes the gradient of y as it is, if y has none yet.
func (e *Engine) Add(x, y mat.Tensor) mat.Tensor {
	xv, yv := valueOf(x), valueOf(y)
	z := e.result(xv.rows(), xv.cols())
	kernels.Add(z.data, xv.data, yv.data)
	return e.record(z, func(gz []float32) {
		if dx, beta, ok := e.into(x); ok && beta == 0 {
			kernels.Copy(dx, gz)
		} else if ok {
			kernels.Accumulate(dx, gz)
		}
		z.grad = nil
		e.give(y, gz)
	}, x, y)
}

// Scale is s·x.
func (e *Engine) Scale(x mat.Tensor, s float32) mat.Tensor {
	xv := valueOf(x)
	y := e.result(xv.rows(), xv.cols())
	copy(y.data, xv.data)
	kernels.Scale(y.data, s)
	return e.record(y, func(gy []float32) {
		if dx := e.zeroed(x); dx != nil {
			kernels.Axpy(s, gy, dx)
		}
	}, x)
}

// Clip bounds every number to ±limit; what it changes has no gradient.
func (e *Engine) Clip(x mat.Tensor, limit float32) mat.Tensor {
	xv := valueOf(x)
	y := e.result(xv.rows(), xv.cols())
	kernels.Clip(y.data, xv.data, limit)
	return e.record(y, func(gy []float32) {
		e.addTo(x, func(dx []float32) { kernels.ClipBackward(dx, gy, xv.data, limit) })
	}, x)
}
