package golden_test

import (
	"math"

	"gqa/internal/activation"
	"gqa/internal/ops"
)

// exact is an engine of plain loops in float64, beside which others are measured: it rounds nothing but the weights.
type exact struct{}

// wide is a matrix [rows, cols] in float64.
type wide struct {
	rows, cols int
	data       []float64
}

var _ ops.Ops[wide] = exact{}

func newF64(rows, cols int) wide { return wide{rows, cols, make([]float64, rows*cols)} }

func (m wide) row(r int) []float64 { return m.data[r*m.cols:][:m.cols] }

// head returns row r of a head: [tokens, heads*headDim] -> [headDim].
func (m wide) head(r, h, headDim int) []float64 { return m.row(r)[h*headDim:][:headDim] }

// each applies f to every element and returns a new matrix.
func (m wide) each(f func(i int, v float64) float64) wide {
	y := newF64(m.rows, m.cols)
	for i, v := range m.data {
		y.data[i] = f(i, v)
	}
	return y
}

func dot64(x, y []float64) (sum float64) {
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}

func (exact) Embed(table wide, ids []int32, first int) wide {
	y := newF64(len(ids), table.cols)
	for r, id := range ids {
		copy(y.row(r), table.row(first+int(id)))
	}
	return y
}

func (exact) Linear(x wide, w ops.Linear[wide]) wide {
	return newF64(x.rows, w.W.rows).each(func(i int, _ float64) float64 {
		sum := dot64(x.row(i/w.W.rows), w.W.row(i%w.W.rows))
		if w.HasBias {
			sum += w.Bias.data[i%w.W.rows]
		}
		return sum
	})
}

func (exact) Norm(x wide, n ops.Norm[wide]) wide {
	scale := make([]float64, x.rows)
	for r := range scale {
		scale[r] = 1 / math.Sqrt(dot64(x.row(r), x.row(r))/float64(x.cols)+float64(n.Eps))
	}
	return x.each(func(i int, v float64) float64 { return v * scale[i/x.cols] * n.W.data[i%x.cols] })
}

func (exact) RelativeBias(table wide, r ops.Relative, b ops.Batch) wide {
	bucket := make([]int32, 2*b.Len-1)
	r.Fill(bucket, b.Len-1)
	return newF64(table.cols*b.Len, b.Len).each(func(i int, _ float64) float64 {
		h, q, k := i/b.Len/b.Len, i/b.Len%b.Len, i%b.Len
		return table.row(int(bucket[k-q+b.Len-1]))[h]
	})
}

func (exact) Attend(q, k, v wide, a ops.Attention[wide], b ops.Batch) wide {
	out, keys := newF64(q.rows, q.cols), k.rows/b.Seqs
	for r := range q.rows {
		for h := range a.Heads {
			kv, first, seen := h*a.KVHeads/a.Heads, r/b.Len*keys, keys
			if a.Causal {
				seen = r%b.Len + 1
			}
			scores := make([]float64, seen)
			for j := range scores {
				scores[j] = float64(a.Scale) * dot64(q.head(r, h, a.HeadDim), k.head(first+j, kv, a.HeadDim))
				if a.HasBias {
					scores[j] += a.Bias.row(h*b.Len + r%b.Len)[j]
				}
			}
			for j, p := range softmax64(scores) {
				for d, x := range v.head(first+j, kv, a.HeadDim) {
					out.head(r, h, a.HeadDim)[d] += p * x
				}
			}
		}
	}
	return out
}

func softmax64(scores []float64) []float64 {
	sum, top := 0.0, math.Inf(-1)
	for _, s := range scores {
		top = max(top, s)
	}
	for j, s := range scores {
		scores[j] = math.Exp(s - top)
		sum += scores[j]
	}
	for j := range scores {
		scores[j] /= sum
	}
	return scores
}

// activations64 are those of T5.
var activations64 = map[activation.Func]func(x float64) float64{
	activation.ReLU:     func(x float64) float64 { return max(x, 0) },
	activation.GELUTanh: func(x float64) float64 { return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) },
}

func (exact) Activate(x wide, act activation.Func) wide {
	return x.each(func(_ int, v float64) float64 { return activations64[act](v) })
}

func (exact) Gate(gate, up wide, act activation.Func) wide {
	return gate.each(func(i int, v float64) float64 { return activations64[act](v) * up.data[i] })
}

func (exact) Add(x, y wide) wide {
	return x.each(func(i int, v float64) float64 { return v + y.data[i] })
}

func (exact) Scale(x wide, s float32) wide {
	return x.each(func(_ int, v float64) float64 { return v * float64(s) })
}

func (exact) Clip(x wide, _ float32) wide                          { return x } // not in T5
func (exact) Rotate(x wide, _ *ops.Rope, _ []int32, _, _ int) wide { return x } // nor is this

func (exact) AttendLatent(_, _, _, _ wide, _ ops.Latent[wide], _ ops.Batch) wide { panic("not in T5") }
