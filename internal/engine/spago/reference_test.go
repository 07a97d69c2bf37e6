package spago

import (
	"cmp"
	"math"

	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/activation"
	"gqa/internal/ops"
)

// Reference implementations of the operators by definition, in float64.

func refEmbed(table []float64, cols int, ids []int32) []float64 {
	var y []float64
	for _, id := range ids {
		y = append(y, table[int(id)*cols:][:cols]...)
	}
	return y
}

// refLinear returns x [n, in] · wᵀ [in, out] + b [out]; b may be nil.
func refLinear(x, w, b []float64, in, out int) []float64 {
	y := make([]float64, len(x)/in*out)
	for i := range y {
		r, c := i/out, i%out
		for k := range in {
			y[i] += x[r*in+k] * w[c*in+k]
		}
		if b != nil {
			y[i] += b[c]
		}
	}
	return y
}

// refNorm normalises rows of len(w): with layer around their mean, plus b, which may be nil.
func refNorm(x, w, b []float64, layer bool, eps float64) []float64 {
	dim, y := len(w), make([]float64, len(x))
	for at := 0; at < len(x); at += dim {
		row, mean, square := x[at:at+dim], 0.0, 0.0
		for _, v := range row {
			if layer {
				mean += v / float64(dim)
			}
		}
		for _, v := range row {
			square += (v - mean) * (v - mean) / float64(dim)
		}
		for i, v := range row {
			y[at+i] = (v - mean) / math.Sqrt(square+eps) * w[i]
			if b != nil {
				y[at+i] += b[i]
			}
		}
	}
	return y
}

func refRotate(x []float64, r *ops.Rope, pos []int32, heads, headDim int) []float64 {
	y := append([]float64(nil), x...)
	half := len(r.InvFreq)
	for row := range len(pos) * heads {
		p, head := pos[row/heads], y[row*headDim:][:headDim]
		for i, f := range r.InvFreq {
			a, b := i, i+half
			if r.Interleaved {
				a, b = 2*i, 2*i+1
			}
			angle := float64(float32(p) * float32(f)) // rounded as transformers does
			cos, sin := math.Cos(angle)*r.Scale, math.Sin(angle)*r.Scale
			head[a], head[b] = head[a]*cos-head[b]*sin, head[b]*cos+head[a]*sin
		}
	}
	return y
}

func refAttend(q, k, v []float64, a ops.Attention[mat.Tensor], b ops.Batch) []float64 {
	return refAttendBiased(q, k, v, nil, a, b)
}

// refAttendBiased adds bias [heads, queries, keys], which may be nil, to the scaled scores.
func refAttendBiased(q, k, v, bias []float64, a ops.Attention[mat.Tensor], b ops.Batch) []float64 {
	from := b
	if a.Cross {
		from = *b.Source
	}
	values := cmp.Or(a.ValueDim, a.HeadDim)
	y := make([]float64, len(q)/a.HeadDim*values)
	at := func(m []float64, heads, width, length, seq, t, h int) []float64 {
		return m[((seq*length+t)*heads+h)*width:][:width]
	}
	for i := range b.Seqs * b.Len * a.Heads {
		seq, t, h := i/a.Heads/b.Len, i/a.Heads%b.Len, i%a.Heads
		kv, end := h*a.KVHeads/a.Heads, from.Len
		if a.Causal {
			end = t + 1
		} else if from.Lens != nil {
			end = from.Lens[seq]
		}
		out, sum := at(y, a.Heads, values, b.Len, seq, t, h), 0.0
		first := 0
		if a.Window > 0 {
			first = max(0, end-a.Window)
		}
		for j := first; j < end; j++ {
			score := 0.0
			for d, x := range at(q, a.Heads, a.HeadDim, b.Len, seq, t, h) {
				score += x * at(k, a.KVHeads, a.HeadDim, from.Len, seq, j, kv)[d]
			}
			score *= float64(a.Scale)
			if bias != nil {
				score += bias[(h*b.Len+t)*from.Len+j]
			}
			e := math.Exp(score)
			sum += e
			for d, x := range at(v, a.KVHeads, values, from.Len, seq, j, kv) {
				out[d] += e * x
			}
		}
		for d := range out {
			out[d] /= sum
		}
	}
	return y
}

// refBias returns the bias [heads, length, length] for a table [buckets, heads].
func refBias(table []float64, r ops.Relative, heads, length int) []float64 {
	var bias []float64
	bucket := make([]int32, 2*length-1)
	r.Fill(bucket, length-1)
	for i := range heads * length * length {
		h, q, k := i/length/length, i/length%length, i%length
		bias = append(bias, table[int(bucket[k-q+length-1])*heads+h])
	}
	return bias
}

var refActivations = map[activation.Func]func(x float64) float64{
	activation.SiLU:      func(x float64) float64 { return x / (1 + math.Exp(-x)) },
	activation.GELU:      func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) },
	activation.GELUTanh:  func(x float64) float64 { return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) },
	activation.QuickGELU: func(x float64) float64 { return x / (1 + math.Exp(-1.702*x)) },
	activation.ReLU:      func(x float64) float64 { return math.Max(x, 0) },
	activation.ReLU2:     func(x float64) float64 { return math.Max(x, 0) * math.Max(x, 0) },
}

func refGate(gate, up []float64, act activation.Func) []float64 {
	y := make([]float64, len(gate))
	for i, x := range gate {
		y[i] = refActivations[act](x) * up[i]
	}
	return y
}

func refAdd(x, y []float64) []float64 {
	z := make([]float64, len(x))
	for i := range z {
		z[i] = x[i] + y[i]
	}
	return z
}

func refCrossEntropy(logits []float64, targets []int32, scale float64) []float64 {
	vocab, sum, counted := len(logits)/len(targets), 0.0, 0
	for r, target := range targets {
		if target < 0 {
			continue
		}
		row, total := logits[r*vocab:][:vocab], 0.0
		for _, x := range row {
			total += math.Exp(x)
		}
		sum += math.Log(total) - row[target]
		counted++
	}
	return []float64{scale * sum / float64(max(counted, 1))}
}

// refAttendLatent expands keys and values of all heads, and attends to them.
func refAttendLatent(nope, rope, latent, key, keyUp, valueUp []float64, a ops.Latent[mat.Tensor], b ops.Batch) []float64 {
	var q, k []float64
	ks := refLinear(latent, keyUp, nil, a.Rank, a.Heads*a.NopeDim)
	for t := range b.Seqs * b.Len {
		for h := range a.Heads {
			at := t*a.Heads + h
			q = append(append(q, nope[at*a.NopeDim:(at+1)*a.NopeDim]...), rope[at*a.RopeDim:][:a.RopeDim]...)
			k = append(append(k, ks[at*a.NopeDim:(at+1)*a.NopeDim]...), key[t*a.RopeDim:][:a.RopeDim]...)
		}
	}
	return refAttend(q, k, refLinear(latent, valueUp, nil, a.Rank, a.Heads*a.ValueDim), a.Attention, b)
}
