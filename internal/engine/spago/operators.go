package spago

import (
	"cmp"

	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/activation"
	"gqa/internal/device"
	"gqa/internal/ops"
)

// Embed gathers rows of table: y[i] = table[first+ids[i]].
func (e *Engine) Embed(table mat.Tensor, ids []int32, first int) mat.Tensor {
	t := valueOf(table)
	y := e.result(len(ids), t.cols)
	e.device.Gather(y.data, t.operand().From(first*t.cols), ids, t.cols)
	return e.record(y, func(gy device.Buffer) {
		dst, ok := e.zeroed(table)
		if !ok {
			return
		}
		if t.padded {
			e.device.ClearRows(gy, ids, t.padding, t.cols)
		}
		e.device.ScatterAdd(dst.From(first*t.cols), gy, ids, t.cols)
	}, table)
}

// Linear computes y = x·Wᵀ + b. Gradients: dx = gy·W, dW = gyᵀ·x, db = Σ gy.
func (e *Engine) Linear(x mat.Tensor, w ops.Linear[mat.Tensor]) mat.Tensor {
	xv, wv := valueOf(x), valueOf(w.W)
	n, in, out := xv.rows, xv.cols, wv.rows
	y := e.result(n, out)
	e.device.Gemm(false, true, n, out, in, 1, xv.data, in, wv.operand(), in, 0, y.data, out)
	operands := []mat.Tensor{x, w.W}
	if w.HasBias {
		e.device.AddRows(y.data, valueOf(w.Bias).data, n, out)
		operands = append(operands, w.Bias)
	}
	z := e.record(y, func(gy device.Buffer) {
		if dx, beta, ok := e.into(x); ok {
			e.device.Gemm(false, false, n, in, out, 1, gy, out, wv.operand(), in, beta, dx, in)
		}
		if dw, beta, ok := e.into(w.W); ok {
			e.device.Gemm(true, false, out, in, n, 1, gy, out, xv.data, in, beta, dw, in)
		}
		if w.HasBias {
			if db, ok := e.zeroed(w.Bias); ok {
				e.device.SumRows(db, gy, n, out)
			}
		}
	}, operands...)
	if e.observe != nil {
		e.observe(x, w.W, z)
	}
	return z
}

// zeroed returns an operand's gradient ready to be added to: zeros if it was empty. ok is false if no gradient is
// required.
func (e *Engine) zeroed(t mat.Tensor) (dst device.Buffer, ok bool) {
	dst, beta, ok := e.into(t)
	if ok && beta == 0 {
		e.device.Clear(dst)
	}
	return dst, ok
}

// Norm normalises every row, or every piece of Dim elements.
func (e *Engine) Norm(x mat.Tensor, n ops.Norm[mat.Tensor]) mat.Tensor {
	if n.Layer {
		return e.layerNorm(x, n)
	}
	xv, rows, dim := normed(x, n)
	w, operands := e.normWeight(n)
	y, inv := e.result(xv.rows, xv.cols), e.alloc(rows)
	e.device.RMSNorm(y.data, inv, xv.data, w, rows, dim, n.Eps)
	return e.record(y, func(gy device.Buffer) {
		var dw device.Buffer
		if n.HasW {
			dw, _ = e.zeroed(n.W)
		}
		e.written(x, xv.Size(), func(dx device.Buffer) {
			e.device.RMSNormBackward(dx, dw, gy, xv.data, w, inv, rows, dim)
		})
		e.free(inv)
	}, append(operands, x)...)
}

// normed returns the rows of x that a norm sees, or their pieces.
func normed(x mat.Tensor, n ops.Norm[mat.Tensor]) (v *value, rows, dim int) {
	v = valueOf(x)
	dim = cmp.Or(n.Dim, v.cols)
	return v, v.Size() / dim, dim
}

// normWeight returns the factor of a norm, omitted if it is one, and the parameter that it is derived from.
func (e *Engine) normWeight(n ops.Norm[mat.Tensor]) (device.Buffer, []mat.Tensor) {
	if !n.HasW {
		return device.Buffer{}, nil
	}
	w := valueOf(n.W)
	if n.Offset == 0 {
		return w.data, []mat.Tensor{n.W}
	}
	moved := e.sum(w.rows, w.cols)
	e.device.Shift(moved.data, w.data, n.Offset)
	e.live = append(e.live, moved)
	return moved.data, []mat.Tensor{n.W}
}

func (e *Engine) layerNorm(x mat.Tensor, n ops.Norm[mat.Tensor]) mat.Tensor {
	xv, rows, dim := normed(x, n)
	w, operands := e.normWeight(n)
	var b device.Buffer
	if n.HasBias {
		b = valueOf(n.Bias).data
		operands = append(operands, n.Bias)
	}
	y, mean, inv := e.result(xv.rows, xv.cols), e.alloc(rows), e.alloc(rows)
	e.device.LayerNorm(y.data, mean, inv, xv.data, w, b, rows, dim, n.Eps)
	return e.record(y, func(gy device.Buffer) {
		var dw, db device.Buffer
		if n.HasW {
			dw, _ = e.zeroed(n.W)
		}
		if n.HasBias {
			db, _ = e.zeroed(n.Bias)
		}
		e.written(x, xv.Size(), func(dx device.Buffer) {
			e.device.LayerNormBackward(dx, dw, db, gy, xv.data, w, mean, inv, rows, dim)
		})
		e.free(mean)
		e.free(inv)
	}, append(operands, x)...)
}

// written is addTo for a kernel that must run for its other results even if its first result is not required.
func (e *Engine) written(t mat.Tensor, n int, write func(dst device.Buffer)) {
	if !valueOf(t).frozen {
		e.addTo(t, write)
		return
	}
	scratch := e.activations(n)
	write(scratch)
	e.free(scratch)
}

// Rotate rotates the planes of every head by its row's position; the backward pass rotates gradients back.
func (e *Engine) Rotate(x mat.Tensor, r *ops.Rope, pos []int32, heads, headDim int) mat.Tensor {
	table := e.rope(r.For(pos), pos)
	xv := valueOf(x)
	y := e.result(xv.rows, xv.cols)
	e.device.Rotate(table, y.data, xv.data, pos, heads, headDim, false)
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Buffer) { e.device.Rotate(table, dx, gy, pos, heads, headDim, true) })
	}, x)
}

// rope returns the table of rotations up to the largest position.
func (e *Engine) rope(r *ops.Rope, pos []int32) device.Rope {
	need := r.Positions
	for _, p := range pos {
		need = max(need, int(p)+1)
	}
	if t := e.ropes[r]; t == nil || t.Positions() < need {
		e.ropes[r] = e.device.NewRope(r.InvFreq, need, r.Scale, r.Interleaved)
	}
	return e.ropes[r]
}

// Activate applies an activation function.
func (e *Engine) Activate(x mat.Tensor, act activation.Func) mat.Tensor {
	xv := valueOf(x)
	y := e.result(xv.rows, xv.cols)
	e.device.Activate(act, y.data, xv.data)
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Buffer) { e.device.ActivateBackward(act, dx, gy, xv.data) })
	}, x)
}

// Gate computes act(gate) * up.
func (e *Engine) Gate(gate, up mat.Tensor, act activation.Func) mat.Tensor {
	g, u := valueOf(gate), valueOf(up)
	y := e.result(g.rows, g.cols)
	e.device.Gate(act, y.data, g.data, u.data)
	return e.record(y, func(gy device.Buffer) {
		e.written(gate, g.Size(), func(dg device.Buffer) {
			e.written(up, u.Size(), func(du device.Buffer) { e.device.GateBackward(act, dg, du, gy, g.data, u.data) })
		})
	}, gate, up)
}

// Add computes x + y. The gradient of the sum becomes the gradient of y without a copy, if y has none yet.
func (e *Engine) Add(x, y mat.Tensor) mat.Tensor {
	xv, yv := valueOf(x), valueOf(y)
	z := e.result(xv.rows, xv.cols)
	e.device.Add(z.data, xv.data, yv.data)
	return e.record(z, func(gz device.Buffer) {
		if dx, beta, ok := e.into(x); ok && beta == 0 {
			e.device.Copy(dx, gz)
		} else if ok {
			e.device.Axpy(1, gz, dx)
		}
		z.grad = device.Buffer{}
		e.give(y, gz)
	}, x, y)
}

// Scale computes s·x.
func (e *Engine) Scale(x mat.Tensor, s float32) mat.Tensor {
	xv := valueOf(x)
	y := e.result(xv.rows, xv.cols)
	e.device.Copy(y.data, xv.data)
	e.device.Scale(y.data, s)
	return e.record(y, func(gy device.Buffer) {
		if dx, ok := e.zeroed(x); ok {
			e.device.Axpy(s, gy, dx)
		}
	}, x)
}

// Clip clips every element to ±limit; clipped elements have no gradient.
func (e *Engine) Clip(x mat.Tensor, limit float32) mat.Tensor {
	xv := valueOf(x)
	y := e.result(xv.rows, xv.cols)
	e.device.Clip(y.data, xv.data, limit)
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Buffer) { e.device.ClipBackward(dx, gy, xv.data, limit) })
	}, x)
}
