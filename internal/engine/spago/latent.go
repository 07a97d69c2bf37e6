package spago

import (
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/device"
	"gqa/internal/ops"
)

// AttendLatent implements ops.Ops in either form.
func (e *Engine) AttendLatent(nope, rope, latent, key mat.Tensor, a ops.Latent[mat.Tensor], b ops.Batch) mat.Tensor {
	latent = e.dense(latent) // it is used twice
	if a.Absorbs() {
		return e.absorbed(nope, rope, latent, key, a, b)
	}
	if a.NopeDim == 0 {
		return e.Attend(rope, e.joinHeads(nil, key, a.Heads, 0, a.RopeDim, true), e.Linear(latent, a.ValueUp), a.Attention, b)
	}
	up := e.Linears(latent, []ops.Linear[mat.Tensor]{a.KeyUp, a.ValueUp})
	q := e.joinHeads(nope, rope, a.Heads, a.NopeDim, a.RopeDim, false)
	k := e.joinHeads(up[0], key, a.Heads, a.NopeDim, a.RopeDim, true)
	return e.Attend(q, k, up[1], a.Attention, b)
}

// absorbed computes latent attention in the absorbed form.
func (e *Engine) absorbed(nope, rope, latent, key mat.Tensor, a ops.Latent[mat.Tensor], b ops.Batch) mat.Tensor {
	if a.NopeDim > 0 {
		nope = e.multiplyHeads(nope, a.KeyUp.W, a.Heads, a.Rank, a.NopeDim, false)
	}
	q := e.joinHeads(nope, rope, a.Heads, a.Rank, a.RopeDim, false)
	k := e.joinHeads(latent, key, 1, a.Rank, a.RopeDim, false)
	return e.multiplyHeads(e.Attend(q, k, latent, a.Queries(), b), a.ValueUp.W, a.Heads, a.ValueDim, a.Rank, true)
}

// joinHeads joins the parts of heads: x [tokens, heads*m], or zeros if it is nil, and y [tokens, heads*n], or [tokens, n] if shared.
func (e *Engine) joinHeads(x, y mat.Tensor, heads, m, n int, shared bool) mat.Tensor {
	var first device.Rows
	operands := []mat.Tensor{y}
	if x != nil {
		xv := valueOf(x).ready()
		first, operands = xv.all(xv.data), append(operands, x)
	}
	yv := valueOf(y).ready()
	z := e.result(yv.rows, heads*(m+n))
	e.device.JoinHeads(z.all(z.data), first, yv.all(yv.data), z.rows, heads, m, n, shared)
	return e.record(z, func(gz device.Buffer) {
		if x != nil {
			e.addTo(x, func(dx device.Rows) { e.device.SplitHeads(dx, device.Rows{}, z.all(gz), z.rows, heads, m, n, shared) })
		}
		e.addTo(y, func(dy device.Rows) { e.device.SplitHeads(device.Rows{}, dy, z.all(gz), z.rows, heads, m, n, shared) })
	}, operands...)
}

// multiplyHeads multiplies each head of x [tokens, heads*k] by its matrix: y = x·w [tokens, heads*n] with w [heads*k, n], or y = x·wᵀ
// with w [heads*n, k] if trans is true. With gradients gy: dx = gy·wᵀ, dw = xᵀ·gy, or dx = gy·w, dw = gyᵀ·x.
func (e *Engine) multiplyHeads(x, w mat.Tensor, heads, n, k int, trans bool) mat.Tensor {
	xv, wv := valueOf(x).ready(), use(valueOf(w))
	y := e.result(xv.rows, heads*n)
	of := func(r device.Rows, dim int) device.Heads { return device.Heads{Buffer: r.Buffer, Head: dim, Row: r.LD} }
	e.device.MultiplyHeads(trans, heads, y.rows, n, k, of(y.all(y.data), n), of(xv.all(xv.data), k), wv.operand())
	return e.record(y, func(gy device.Buffer) {
		e.addTo(x, func(dx device.Rows) {
			e.device.MultiplyHeads(!trans, heads, y.rows, k, n, of(dx, k), of(y.all(gy), n), use(wv).operand())
		})
		dw, beta, ok := e.into(w)
		for h := 0; ok && h < heads; h++ {
			px, py, pw := xv.data.From(h*k), gy.From(h*n), dw.From(h*n*k)
			if trans {
				e.device.Gemm(true, false, n, k, y.rows, 1, py, y.cols, px, xv.ld, beta, pw, k)
			} else {
				e.device.Gemm(true, false, k, n, y.rows, 1, px, xv.ld, py, y.cols, beta, pw, n)
			}
		}
	}, x, w)
}
