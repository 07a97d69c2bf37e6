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
	t := use(valueOf(table))
	y := e.result(len(ids), t.cols)
	e.device.Gather(y.data, t.operand().From(first*t.cols), ids, t.cols)
	return e.record(y, func(gy device.Buffer) {
		dst, ok := e.zeroed(table)
		if !ok {
			return
		}
		if t.padded {
			gy = y.own()
			e.device.ClearRows(gy, ids, t.padding, t.cols)
		}
		e.device.ScatterAdd(dst.From(first*t.cols), gy, ids, t.cols)
	}, table)
}

// Linear computes y = x·Wᵀ + b when y is first read. Gradients: dx = gy·W, dW = gyᵀ·x, db = Σ gy.
func (e *Engine) Linear(x mat.Tensor, w ops.Linear[mat.Tensor]) mat.Tensor {
	x = e.dense(x)
	if valueOf(w.W).adapter != nil {
		return e.linearAdapted(x, w)
	}
	xv, wv := valueOf(x).ready(), use(valueOf(w.W))
	n, in, out := xv.rows, xv.cols, wv.rows
	y := e.result(n, out)
	y.product = func() {
		e.device.Gemm(false, true, n, out, in, 1, xv.data, in, wv.operand(), in, 0, y.data, out)
		if w.HasBias {
			e.device.AddRows(y.data, valueOf(w.Bias).data, n, out)
		}
	}
	y.hold(wv)
	operands := []mat.Tensor{x, w.W}
	if w.HasBias {
		y.hold(use(valueOf(w.Bias)))
		operands = append(operands, w.Bias)
	}
	z := e.record(y, func(gy device.Buffer) {
		if dx, beta, ok := e.into(x); ok {
			e.device.Gemm(false, false, n, in, out, 1, gy, out, use(wv).operand(), in, beta, dx, in)
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

// Norm normalises every row, or every piece of Dim elements. If x is a sum that has not been computed yet, both are computed
// in one pass.
func (e *Engine) Norm(x mat.Tensor, n ops.Norm[mat.Tensor]) mat.Tensor {
	x = e.dense(x)
	xv := valueOf(x)
	dim := cmp.Or(n.Dim, xv.cols)
	if dim != xv.cols || xv.addends == nil {
		xv.ready()
	}
	if n.Layer {
		return e.layerNorm(x, n, xv.Size()/dim, dim)
	}
	return e.rmsNorm(x, n, xv.Size()/dim, dim)
}

func (e *Engine) rmsNorm(x mat.Tensor, n ops.Norm[mat.Tensor], rows, dim int) mat.Tensor {
	xv := valueOf(x)
	w, operands := e.normWeight(n)
	y := e.result(xv.rows, xv.cols)
	inv := e.keep(y, rows)
	if a := xv.addends; a != nil {
		e.device.AddRMSNorm(y.data, inv, xv.data, a[0].ready().data, a[1].ready().data, w, rows, dim, n.Eps)
		xv.addends = nil
	} else {
		e.device.RMSNorm(y.data, inv, xv.data, w, rows, dim, n.Eps)
	}
	return e.record(y, func(gy device.Buffer) {
		w, dw := again(w, n), device.Buffer{}
		if n.HasW {
			dw, _ = e.zeroed(n.W)
		}
		dx, add, done := e.sumOf(x)
		e.device.RMSNormBackward(dx, dw, gy, xv.data, w, inv, rows, dim, add)
		done()
	}, append(operands, x)...)
}

// sumOf returns the buffer of an operand's gradient, for a kernel that can add to it and must run for its other results even
// if this one is not required. done must be called afterwards.
func (e *Engine) sumOf(t mat.Tensor) (dst device.Buffer, add bool, done func()) {
	dst, beta, ok := e.into(t)
	if !ok {
		scratch := e.activations(valueOf(t).Size())
		return scratch, false, func() { e.free(scratch) }
	}
	return dst, beta == 1, func() {}
}

// normWeight returns the factor of a norm, omitted if it is one, and the parameter that it is derived from.
func (e *Engine) normWeight(n ops.Norm[mat.Tensor]) (device.Buffer, []mat.Tensor) {
	if !n.HasW {
		return device.Buffer{}, nil
	}
	w := use(valueOf(n.W))
	if n.Offset == 0 {
		return w.data, []mat.Tensor{n.W}
	}
	moved := e.sum(w.rows, w.cols)
	e.device.Shift(moved.data, w.data, n.Offset)
	e.live = append(e.live, moved)
	return moved.data, []mat.Tensor{n.W}
}

// again returns the factor of a norm for its backward pass: as it was, unless it is a weight that was freed since.
func again(w device.Buffer, n ops.Norm[mat.Tensor]) device.Buffer {
	if !n.HasW || n.Offset != 0 {
		return w
	}
	return use(valueOf(n.W)).data
}

func (e *Engine) layerNorm(x mat.Tensor, n ops.Norm[mat.Tensor], rows, dim int) mat.Tensor {
	xv := valueOf(x)
	w, operands := e.normWeight(n)
	var b device.Buffer
	if n.HasBias {
		b = use(valueOf(n.Bias)).data
		operands = append(operands, n.Bias)
	}
	y := e.result(xv.rows, xv.cols)
	mean, inv := e.keep(y, rows), e.keep(y, rows)
	if a := xv.addends; a != nil {
		e.device.AddLayerNorm(y.data, mean, inv, xv.data, a[0].ready().data, a[1].ready().data, w, b, rows, dim, n.Eps)
		xv.addends = nil
	} else {
		e.device.LayerNorm(y.data, mean, inv, xv.data, w, b, rows, dim, n.Eps)
	}
	return e.record(y, func(gy device.Buffer) {
		var dw, db device.Buffer
		w := again(w, n)
		if n.HasW {
			dw, _ = e.zeroed(n.W)
		}
		if n.HasBias {
			db, _ = e.zeroed(n.Bias)
		}
		dx, add, done := e.sumOf(x)
		e.device.LayerNormBackward(dx, dw, db, gy, xv.data, w, mean, inv, rows, dim, add)
		done()
	}, append(operands, x)...)
}

// written is addTo for a kernel that must run for its other results even if its first result is not required.
func (e *Engine) written(t mat.Tensor, write func(dst device.Rows)) {
	v := valueOf(t)
	if !v.frozen {
		e.addTo(t, write)
		return
	}
	scratch := e.activations(v.Size())
	write(device.Rows{Buffer: scratch, LD: v.cols})
	e.free(scratch)
}

// Rotate rotates the planes of every head by its row's position; the backward pass rotates gradients back. Columns of a
// product are rotated in place.
func (e *Engine) Rotate(x mat.Tensor, r *ops.Rope, pos []int32, heads, headDim int) mat.Tensor {
	table := e.rope(r.For(pos), pos)
	xv := valueOf(x).ready()
	var y *value
	if xv.whole != nil {
		y = e.columns(xv.whole, xv.first, xv.cols)
	} else {
		y = e.result(xv.rows, xv.cols)
	}
	e.device.Rotate(table, y.all(y.data), xv.all(xv.data), pos, heads, headDim, false)
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Rows) { e.device.Rotate(table, dx, y.all(gy), pos, heads, headDim, true) })
	}, x)
}

// RotatePair implements ops.PairRotator: queries and keys that are adjacent columns of a product are rotated together.
func (e *Engine) RotatePair(q, k mat.Tensor, r *ops.Rope, pos []int32, heads, kvHeads, headDim int) (_, _ mat.Tensor) {
	qv, kv := valueOf(q), valueOf(k)
	if qv.whole == nil || kv.whole != qv.whole || kv.first != qv.first+qv.cols {
		return e.Rotate(q, r, pos, heads, headDim), e.Rotate(k, r, pos, kvHeads, headDim)
	}
	table, both := e.rope(r.For(pos), pos), e.columns(qv.whole, qv.first, qv.cols+kv.cols)
	rotate := func(x device.Buffer, inverse bool) {
		e.device.Rotate(table, both.all(x), both.all(x), pos, heads+kvHeads, headDim, inverse)
	}
	rotate(both.data, false)
	y := e.record(both, func(gy device.Buffer) {
		e.into(q) // the gradients lie where gy does
		e.into(k)
		rotate(gy, true)
	}, q, k)
	return e.part(y, qv.first, qv.cols), e.part(y, kv.first, kv.cols)
}

// rope returns the table of rotations up to the largest position.
func (e *Engine) rope(r *ops.Rope, pos []int32) device.Rope {
	need := r.Positions
	for _, p := range pos {
		need = max(need, int(p)+1)
	}
	if t := e.ropes[r]; t == nil || t.Positions() < need {
		if t != nil {
			e.outgrown = append(e.outgrown, t) // the backward pass may need it
		}
		e.ropes[r] = e.device.NewRope(r.InvFreq, need, r.Scale, r.Interleaved)
	}
	return e.ropes[r]
}

// Activate applies an activation function.
func (e *Engine) Activate(x mat.Tensor, act activation.Func) mat.Tensor {
	x = e.dense(x)
	xv := valueOf(x).ready()
	y := e.result(xv.rows, xv.cols)
	e.device.Activate(act, y.data, xv.data)
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Rows) { e.device.ActivateBackward(act, dx.Buffer, gy, xv.data) })
	}, x)
}

// Gate computes act(gate) * up.
func (e *Engine) Gate(gate, up mat.Tensor, act activation.Func) mat.Tensor {
	g, u := valueOf(gate).ready(), valueOf(up).ready()
	y := e.result(g.rows, g.cols)
	e.device.Gate(act, y.data, g.all(g.data), u.all(u.data), g.rows, g.cols)
	return e.record(y, func(gy device.Buffer) {
		e.written(gate, func(dg device.Rows) {
			e.written(up, func(du device.Rows) {
				e.device.GateBackward(act, dg, du, gy, g.all(g.data), u.all(u.data), g.rows, g.cols)
			})
		})
	}, gate, up)
}

// Add computes x + y when the sum is first read, so that a norm can do so.
func (e *Engine) Add(x, y mat.Tensor) mat.Tensor {
	x, y = e.dense(x), e.dense(y)
	xv, yv := valueOf(x), valueOf(y)
	z := e.result(xv.rows, xv.cols)
	z.addends = &[2]*value{xv, yv}
	return e.record(z, func(device.Buffer) { e.pass(z, xv, yv) }, x, y)
}

// Scale computes s·x.
func (e *Engine) Scale(x mat.Tensor, s float32) mat.Tensor {
	x = e.dense(x)
	xv := valueOf(x).ready()
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
	x = e.dense(x)
	xv := valueOf(x).ready()
	y := e.result(xv.rows, xv.cols)
	e.device.Clip(y.data, xv.data, limit)
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Rows) { e.device.ClipBackward(dx.Buffer, gy, xv.data, limit) })
	}, x)
}
