package nn

import (
	"math"

	"gqa/internal/cpu/simd"
)

// AttendRef is the definition of Attend: a row of scores at a time, in float64.
func AttendRef(a Attention, out View, lse []float32, q, k, v View) {
	a.eachRow(func(b, h, kv, i int) {
		p, total := a.probabilities(q, k, b, h, kv, i)
		for x := range a.valueDim() {
			sum := 0.0
			for j, w := range p {
				sum += w * v.value(b, kv, j, x, a.valueDim())
			}
			out.at(b, h, i)[x] = float32(sum)
		}
		if lse != nil {
			lse[(b*a.Heads+h)*a.Queries+i] = float32(total)
		}
	})
}

// value returns an element of any format.
func (v View) value(b, h, t, x, d int) float64 {
	if v.Ints != 0 {
		bytes, scales := v.bytes(b, h, t)
		return float64(v.Ints.Value(bytes, x, d)) * float64(scales[0])
	}
	if v.Format == simd.F32 {
		return float64(v.at(b, h, t)[x])
	}
	return float64(v.Format.Value(v.Half[v.index(b, h, t)+x]))
}

func (a *Attention) eachRow(f func(b, h, kv, i int)) {
	for b := range a.Batch {
		for h := range a.Heads {
			for i := range a.Queries {
				f(b, h, h/a.group(), i)
			}
		}
	}
}

// probabilities returns the softmax of the scores of a query over the keys up to the last it sees, and their
// logsumexp.
func (a *Attention) probabilities(q, k View, b, h, kv, i int) (p []float64, lse float64) {
	first, end := a.visible(b, i)
	p = make([]float64, end)
	top, sum := math.Inf(-1), 0.0
	seen := func(j int) bool { return j >= first || j < a.Sinks }
	for j := range end {
		if !seen(j) {
			continue
		}
		q := q
		if j < a.Sinks {
			q = a.sinkQueries(q)
		}
		for x := range a.HeadDim {
			p[j] += float64(q.at(b, h, i)[x]) * k.value(b, kv, j, x, a.HeadDim) * float64(a.Scale)
		}
		p[j] += a.bias(b, h, i, j)
		top = max(top, p[j])
	}
	for j := range end {
		if seen(j) {
			p[j] = math.Exp(p[j] - top)
			sum += p[j]
		}
	}
	for j := range p {
		p[j] /= sum
	}
	return p, top + math.Log(sum)
}

// bias returns what is added to the scaled score of query i of head h for key j, in float64.
func (a *Attention) bias(b, h, i, j int) float64 {
	bias := at(a.Bias, (h*a.Queries+i)*a.Keys+j, 0)
	switch {
	case a.Slopes != nil && a.CoarseSlopes != 0:
		bias += float64(a.CoarseSlopes) * float64(simd.BF16.Value(simd.BF16.Nearest(simd.BF16.Value(simd.BF16.Nearest(a.Slopes[h]))*float32(j-a.start(b, i)))))
	case a.Slopes != nil:
		bias += float64(a.Slopes[h]) * float64(j-i-a.keys(b)+a.Queries)
	}
	return bias
}

// AttendBackwardRef is the definition of AttendBackward, in float64 but for the sums over rows in dk and dv.
func AttendBackwardRef(a Attention, dq, dk, dv View, dout, out View, lse []float32, q, k, v View) {
	clearHeads(dq, a.Batch, a.Heads, a.Queries, a.HeadDim)
	clearHeads(dk, a.Batch, a.KVHeads, a.Keys, a.HeadDim)
	clearHeads(dv, a.Batch, a.KVHeads, a.Keys, a.valueDim())
	a.eachRow(func(b, h, kv, i int) {
		p, _ := a.probabilities(q, k, b, h, kv, i)
		dp, delta := make([]float64, len(p)), 0.0
		for j := range p {
			for x := range a.valueDim() {
				dp[j] += float64(dout.at(b, h, i)[x]) * float64(v.at(b, kv, j)[x])
			}
			delta += p[j] * dp[j]
		}
		for j := range p {
			ds := p[j] * (dp[j] - delta)
			if a.BiasGrad != nil {
				a.BiasGrad[(h*a.Queries+i)*a.Keys+j] += float32(ds)
			}
			ds *= float64(a.Scale)
			for x := range a.valueDim() {
				dv.at(b, kv, j)[x] += float32(p[j] * float64(dout.at(b, h, i)[x]))
			}
			for x := range a.HeadDim {
				dk.at(b, kv, j)[x] += float32(ds * float64(q.at(b, h, i)[x]))
				dq.at(b, h, i)[x] += float32(ds * float64(k.at(b, kv, j)[x]))
			}
		}
	})
}

func clearHeads(v View, batch, heads, rows, dim int) {
	for b := range batch {
		for h := range heads {
			for t := range rows {
				clear(v.at(b, h, t)[:dim])
			}
		}
	}
}
