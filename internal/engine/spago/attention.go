package spago

import (
	"cmp"

	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/device"
	"gqa/internal/ops"
)

// Attend computes grouped-query attention within each sequence of the batch, or from it to its source.
func (e *Engine) Attend(q, k, v mat.Tensor, a ops.Attention[mat.Tensor], b ops.Batch) mat.Tensor {
	qv, kv, vv := valueOf(q).ready(), valueOf(k).ready(), valueOf(v).ready()
	spec, from := attention(a, b)
	values := cmp.Or(a.ValueDim, a.HeadDim)
	heads := func(x device.Rows, length, width int) device.Heads {
		return device.Heads{Buffer: x.Buffer, Seq: length * x.LD, Head: width, Row: x.LD}
	}
	y := e.result(qv.rows, a.Heads*values)
	lse := e.keep(y, b.Seqs*a.Heads*b.Len)
	out := heads(y.all(y.data), b.Len, values)
	qs, ks, vs := heads(qv.all(qv.data), b.Len, a.HeadDim), heads(kv.all(kv.data), from.Len, a.HeadDim), heads(vv.all(vv.data), from.Len, values)
	operands := []mat.Tensor{q, k, v}
	if a.HasBias {
		spec.Bias = valueOf(a.Bias).data
		operands = append(operands, a.Bias)
	}
	e.device.Attend(spec, out, lse, qs, ks, vs)
	return e.record(y, func(gy device.Buffer) {
		var dbias device.Buffer
		if a.HasBias {
			dbias, _ = e.zeroed(a.Bias)
		}
		e.written(q, func(dq device.Rows) {
			e.written(k, func(dk device.Rows) {
				e.written(v, func(dv device.Rows) {
					e.device.AttendBackward(spec, heads(dq, b.Len, a.HeadDim), heads(dk, from.Len, a.HeadDim), heads(dv, from.Len, values),
						dbias, heads(y.all(gy), b.Len, values), out, lse, qs, ks, vs)
				})
			})
		})
	}, operands...)
}

// attention returns the device's description of a site, and the batch that keys and values belong to.
func attention(a ops.Attention[mat.Tensor], b ops.Batch) (device.Scores, ops.Batch) {
	from := b
	if a.Cross {
		from = *b.Source
	}
	spec := device.Scores{
		Batch: b.Seqs, Queries: b.Len, Keys: from.Len, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim,
		ValueDim: a.ValueDim, Scale: a.Scale, Causal: a.Causal, Window: a.Window, Slopes: a.Slopes, CoarseSlopes: a.CoarseSlopes,
	}
	switch {
	case !a.Causal:
		spec.KeyLens = from.Lens
	case !a.Cross:
		spec.Firsts = b.Firsts
	}
	return spec, from
}

// RelativeBias gathers the bias of every query and key from the table; the backward pass sums the gradients.
func (e *Engine) RelativeBias(table mat.Tensor, r ops.Relative, b ops.Batch) mat.Tensor {
	t := use(valueOf(table))
	heads := t.cols
	bucket := make([]int32, 2*b.Len-1)
	r.Fill(bucket, b.Len-1)
	y := e.sum(heads*b.Len, b.Len)
	e.device.RelativeBias(y.data, t.data, bucket, heads, b.Len, b.Len)
	return e.record(y, func(gy device.Buffer) {
		if dst, ok := e.zeroed(table); ok {
			e.device.RelativeBiasBackward(dst, gy, bucket, heads, b.Len, b.Len)
		}
	}, table)
}
