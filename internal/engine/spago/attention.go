package spago

import (
	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/kernels"
	"gqa/internal/ops"
)

// Attend is grouped-query attention within each sequence of the batch, or from it to its source.
func (e *Engine) Attend(q, k, v mat.Tensor, a ops.Attention[mat.Tensor], b ops.Batch) mat.Tensor {
	qv, kv, vv := valueOf(q), valueOf(k), valueOf(v)
	spec, from := attention(a, b)
	heads := func(data []float32, length, n int) kernels.View {
		return kernels.View{Data: data, Seq: length * n * a.HeadDim, Head: a.HeadDim, Row: n * a.HeadDim}
	}
	y, lse := e.result(qv.rows(), qv.cols()), e.alloc(b.Seqs*a.Heads*b.Len)
	out := heads(y.data, b.Len, a.Heads)
	qs, ks, vs := heads(qv.data, b.Len, a.Heads), heads(kv.data, from.Len, a.KVHeads), heads(vv.data, from.Len, a.KVHeads)
	operands := []mat.Tensor{q, k, v}
	if a.HasBias {
		spec.Bias = valueOf(a.Bias).data
		operands = append(operands, a.Bias)
	}
	if !e.stopped() {
		kernels.Attend(spec, out, lse, qs, ks, vs)
	}
	return e.record(y, func(gy []float32) {
		if a.HasBias {
			spec.BiasGrad = e.zeroed(a.Bias)
		}
		e.written(q, len(qv.data), func(dq []float32) {
			e.written(k, len(kv.data), func(dk []float32) {
				e.written(v, len(vv.data), func(dv []float32) {
					if e.stopped() {
						return
					}
					kernels.AttendBackward(spec, heads(dq, b.Len, a.Heads), heads(dk, from.Len, a.KVHeads), heads(dv, from.Len, a.KVHeads),
						heads(gy, b.Len, a.Heads), out, lse, qs, ks, vs)
				})
			})
		})
		e.free(lse)
	}, operands...)
}

// attention is the kernel's view of a site, and the batch that keys and values are of.
func attention(a ops.Attention[mat.Tensor], b ops.Batch) (kernels.Attention, ops.Batch) {
	from := b
	if a.Cross {
		from = *b.Source
	}
	spec := kernels.Attention{
		Batch: b.Seqs, Queries: b.Len, Keys: from.Len, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim,
		Scale: a.Scale, Causal: a.Causal, Window: a.Window, Slopes: a.Slopes, CoarseSlopes: a.CoarseSlopes,
	}
	if !a.Causal {
		spec.KeyLens = from.Lens
	}
	return spec, from
}

// RelativeBias gathers the bias of every query and key from the table; the gradient is summed back.
func (e *Engine) RelativeBias(table mat.Tensor, r ops.Relative, b ops.Batch) mat.Tensor {
	t := valueOf(table)
	heads := t.cols()
	bucket := make([]int32, 2*b.Len-1)
	kernels.RelativeBuckets(bucket, b.Len-1, r.Buckets, r.MaxDistance, r.BothWays)
	y := e.result(heads*b.Len, b.Len)
	kernels.RelativeBias(y.data, t.data, bucket, heads, b.Len, b.Len)
	return e.record(y, func(gy []float32) {
		if dst := e.zeroed(table); dst != nil {
			kernels.RelativeBiasBackward(dst, gy, bucket, heads, b.Len, b.Len)
		}
	}, table)
}
