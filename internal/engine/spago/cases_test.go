package spago

import (
	"fmt"
	"math"
	"slices"

	"github.com/nlpodyssey/spago/mat"

	"gqa/internal/activation"
	"gqa/internal/ops"
)

// opCase is an operator, or a few of them, over inputs of some shapes.
type opCase struct {
	name   string
	shapes [][2]int // of the inputs: rows, columns
	run    func(e *Engine, in []mat.Tensor) mat.Tensor
	ref    func(in [][]float64) []float64
}

func opCases() []opCase {
	return slices.Concat(linearCases(), normCases(), rotateCases(), attendCases(), alibiCases(), biasedCases(), latentCases(), activationCases(), lossCases(), sharedCases())
}

func linearCases() []opCase {
	ids := []int32{3, 0, 3, 4, 3}
	return []opCase{
		{
			"embed",
			[][2]int{{5, 6}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Embed(in[0], ids, 0) },
			func(in [][]float64) []float64 { return refEmbed(in[0], 6, ids) },
		},
		{
			"embed from row 2",
			[][2]int{{7, 6}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Embed(in[0], ids, 2) },
			func(in [][]float64) []float64 { return refEmbed(in[0][2*6:], 6, ids) },
		},
		{
			"linear",
			[][2]int{{7, 6}, {5, 6}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Linear(in[0], ops.Linear[mat.Tensor]{W: in[1]}) },
			func(in [][]float64) []float64 { return refLinear(in[0], in[1], nil, 6, 5) },
		},
		{
			"linear with bias",
			[][2]int{{7, 6}, {5, 6}, {5, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Linear(in[0], ops.Linear[mat.Tensor]{W: in[1], Bias: in[2], HasBias: true})
			},
			func(in [][]float64) []float64 { return refLinear(in[0], in[1], in[2], 6, 5) },
		},
	}
}

func normCases() []opCase {
	const eps = 0.01
	return []opCase{
		{
			"rms norm",
			[][2]int{{4, 9}, {9, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], HasW: true, Eps: eps})
			},
			func(in [][]float64) []float64 { return refNorm(in[0], in[1], nil, false, float64(float32(eps))) },
		},
		{
			"layer norm",
			[][2]int{{4, 9}, {9, 1}, {9, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], HasW: true, Bias: in[2], HasBias: true, Layer: true, Eps: eps})
			},
			func(in [][]float64) []float64 { return refNorm(in[0], in[1], in[2], true, float64(float32(eps))) },
		},
		{
			"layer norm without bias",
			[][2]int{{4, 9}, {9, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], HasW: true, Layer: true, Eps: eps})
			},
			func(in [][]float64) []float64 { return refNorm(in[0], in[1], nil, true, float64(float32(eps))) },
		},
		{
			"layer norm without weights",
			[][2]int{{4, 9}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{Layer: true, Eps: eps})
			},
			func(in [][]float64) []float64 {
				return refNorm(in[0], slices.Repeat([]float64{1}, 9), nil, true, float64(float32(eps)))
			},
		},
		{
			"rms norm with 1 + w",
			[][2]int{{4, 9}, {9, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], HasW: true, Offset: 1, Eps: eps})
			},
			func(in [][]float64) []float64 {
				return refNorm(in[0], refAdd(in[1], slices.Repeat([]float64{1}, 9)), nil, false, float64(float32(eps)))
			},
		},
		{
			"rms norm of each head",
			[][2]int{{4, 15}, {5, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], HasW: true, Dim: 5, Eps: eps})
			},
			func(in [][]float64) []float64 { return refNorm(in[0], in[1], nil, false, float64(float32(eps))) },
		},
		{
			"layer norm of each head with weights of its own",
			[][2]int{{4, 15}, {3, 5}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], HasW: true, Dim: 5, Layer: true, Eps: eps})
			},
			func(in [][]float64) []float64 {
				plain := refNorm(in[0], slices.Repeat([]float64{1}, 5), nil, true, float64(float32(eps)))
				for i := range plain {
					plain[i] *= in[1][i%15]
				}
				return plain
			},
		},
	}
}

func rotateCases() (cases []opCase) {
	const heads, headDim = 2, 8
	pos := []int32{0, 1, 2, 0, 1, 9}
	for _, planes := range []int{4, 3, 1} {
		for _, interleaved := range []bool{false, true} {
			r := &ops.Rope{Interleaved: interleaved, Scale: 1.1, Positions: 3}
			for i := range planes {
				r.InvFreq = append(r.InvFreq, math.Pow(10, -float64(i)/2))
			}
			cases = append(cases, opCase{
				fmt.Sprintf("rotate %d of 4 planes, interleaved %v", planes, interleaved),
				[][2]int{{len(pos), heads * headDim}},
				func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Rotate(in[0], r, pos, heads, headDim) },
				func(in [][]float64) []float64 { return refRotate(in[0], r, pos, heads, headDim) },
			})
		}
	}
	long := &ops.Rope{InvFreq: []float64{1, 0.5}, Scale: 1, LongFrom: 9, Long: &ops.Rope{InvFreq: []float64{0.3, 0.2}, Scale: 1}}
	short := *long
	short.LongFrom = 10
	for name, c := range map[string]struct{ r, want *ops.Rope }{"short": {&short, long}, "long": {long, long.Long}} {
		cases = append(cases, opCase{
			"rotate what is " + name,
			[][2]int{{len(pos), heads * headDim}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Rotate(in[0], c.r, pos, heads, headDim) },
			func(in [][]float64) []float64 { return refRotate(in[0], c.want, pos, heads, headDim) },
		})
	}
	return cases
}

func attendCases() (cases []opCase) {
	const heads, headDim = 4, 3
	b := ops.Batch{Seqs: 2, Len: 5}
	for _, groups := range []int{4, 2, 1} {
		for _, see := range []struct {
			causal bool
			window int
		}{{false, 0}, {true, 0}, {true, 2}} {
			a := ops.Attention[mat.Tensor]{Heads: heads, KVHeads: groups, HeadDim: headDim, Scale: 0.5, Causal: see.causal, Window: see.window}
			kv := [2]int{10, groups * headDim}
			cases = append(cases, opCase{
				fmt.Sprintf("attend, group size %d, causal %v, window %d", heads/groups, see.causal, see.window),
				[][2]int{{10, heads * headDim}, kv, kv},
				func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Attend(in[0], in[1], in[2], a, b) },
				func(in [][]float64) []float64 { return refAttend(in[0], in[1], in[2], a, b) },
			})
		}
	}
	return cases
}

// alibiCases returns attention with linear biases, in float32 and in bfloat16.
func alibiCases() (cases []opCase) {
	b := ops.Batch{Seqs: 2, Len: 5}
	for _, coarse := range []float32{0, 0.5} {
		a := ops.Attention[mat.Tensor]{
			Heads: 2, KVHeads: 1, HeadDim: 3, Scale: 0.5, Causal: true, Slopes: []float32{0.5, 0.125}, CoarseSlopes: coarse,
		}
		var bias []float64
		for i := range a.Heads * b.Len * b.Len {
			h, q, k := i/b.Len/b.Len, i/b.Len%b.Len, i%b.Len
			if coarse != 0 {
				bias = append(bias, float64(coarse*a.Slopes[h])*float64(k)) // these are exact in bfloat16
			} else {
				bias = append(bias, float64(a.Slopes[h])*float64(k-q))
			}
		}
		cases = append(cases, opCase{
			fmt.Sprintf("attend with slopes, coarse %v", coarse),
			[][2]int{{10, 6}, {10, 3}, {10, 3}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Attend(in[0], in[1], in[2], a, b) },
			func(in [][]float64) []float64 { return refAttendBiased(in[0], in[1], in[2], bias, a, b) },
		})
	}
	return cases
}

// biasedCases returns attention with a learned position bias, across to a source, and with padding.
func biasedCases() (cases []opCase) {
	const heads, groups, headDim, buckets = 4, 2, 3, 6
	source := ops.Batch{Seqs: 2, Len: 3, Lens: []int{3, 1}}
	padded := ops.Batch{Seqs: 2, Len: 5, Lens: []int{2, 5}, Source: &source}
	q, kv, table := [2]int{10, heads * headDim}, [2]int{10, groups * headDim}, [2]int{buckets, heads}
	a := ops.Attention[mat.Tensor]{Heads: heads, KVHeads: groups, HeadDim: headDim, Scale: 1}
	cross, causal := a, a
	cross.Cross, causal.Causal = true, true
	for name, c := range map[string]struct {
		a      ops.Attention[mat.Tensor]
		b      ops.Batch
		shapes [][2]int
	}{
		"causal, relative bias":             {causal, ops.Batch{Seqs: 2, Len: 5}, [][2]int{q, kv, kv, table}},
		"both ways, relative bias":          {a, ops.Batch{Seqs: 2, Len: 5}, [][2]int{q, kv, kv, table}},
		"both ways, relative bias, padding": {a, padded, [][2]int{q, kv, kv, table}},
		"cross, padding":                    {cross, padded, [][2]int{q, {6, groups * headDim}, {6, groups * headDim}}},
	} {
		r := ops.Relative{Buckets: buckets, MaxDistance: 5, BothWays: !c.a.Causal}
		cases = append(cases, opCase{
			"attend " + name,
			c.shapes,
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				a := c.a
				if len(in) > 3 {
					a.Bias, a.HasBias = e.RelativeBias(in[3], r, c.b), true
				}
				return e.Attend(in[0], in[1], in[2], a, c.b)
			},
			func(in [][]float64) []float64 {
				if len(in) > 3 {
					return refAttendBiased(in[0], in[1], in[2], refBias(in[3], r, heads, c.b.Len), c.a, c.b)
				}
				return refAttend(in[0], in[1], in[2], c.a, c.b)
			},
		})
	}
	return cases
}

// latentCases returns latent attention in both forms, with and without queries that have no positions.
func latentCases() (cases []opCase) {
	const heads, nope, rope, value, rank = 3, 4, 2, 5, 6
	b := ops.Batch{Seqs: 2, Len: 5}
	for _, form := range []ops.LatentForm{ops.LatentExpanded, ops.LatentAbsorbed} {
		for _, nope := range []int{nope, 0} {
			a := ops.Latent[mat.Tensor]{
				Attention: ops.Attention[mat.Tensor]{Heads: heads, KVHeads: heads, HeadDim: nope + rope, ValueDim: value, Scale: 0.4, Causal: true, Window: 4},
				NopeDim:   nope, RopeDim: rope, Rank: rank, Form: form,
			}
			shapes := [][2]int{{10, heads * rope}, {10, rank}, {10, rope}, {heads * value, rank}}
			if nope > 0 {
				shapes = append(shapes, [2]int{10, heads * nope}, [2]int{heads * nope, rank})
			}
			cases = append(cases, opCase{
				fmt.Sprintf("attend to latents, form %d, %d numbers without positions", form, nope),
				shapes,
				func(e *Engine, in []mat.Tensor) mat.Tensor {
					a, q := a, mat.Tensor(nil)
					a.ValueUp.W = in[3]
					if nope > 0 {
						q, a.KeyUp.W = in[4], in[5]
					}
					return e.AttendLatent(q, in[0], in[1], in[2], a, b)
				},
				func(in [][]float64) []float64 {
					if nope == 0 {
						in = append(slices.Clone(in), nil, nil)
					}
					return refAttendLatent(in[4], in[0], in[1], in[2], in[5], in[3], a, b)
				},
			})
		}
	}
	return cases
}

func activationCases() (cases []opCase) {
	ones := slices.Repeat([]float64{1}, 21)
	for act := range refActivations {
		cases = append(cases, opCase{
			"activate " + act.String(),
			[][2]int{{3, 7}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Activate(in[0], act) },
			func(in [][]float64) []float64 { return refGate(in[0], ones, act) },
		}, opCase{
			"gate " + act.String(),
			[][2]int{{3, 7}, {3, 7}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Gate(in[0], in[1], act) },
			func(in [][]float64) []float64 { return refGate(in[0], in[1], act) },
		})
	}
	return cases
}

func lossCases() (cases []opCase) {
	for name, targets := range map[string][]int32{
		"every row": {0, 6, 3, 3}, "skipped rows": {-1, 6, -1, 3}, "one row": {-1, -1, 2, -1}, "no row": {-1, -1, -1, -1},
	} {
		cases = append(cases, opCase{
			"cross entropy of " + name,
			[][2]int{{4, 5}, {7, 5}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.LinearCrossEntropy(in[0], ops.Linear[mat.Tensor]{W: in[1]}, targets, 0.75).Tensor
			},
			func(in [][]float64) []float64 {
				return refCrossEntropy(refLinear(in[0], in[1], nil, 5, 7), targets, 0.75)
			},
		}, opCase{
			"cross entropy with bias of " + name,
			[][2]int{{4, 5}, {7, 5}, {7, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.LinearCrossEntropy(in[0], ops.Linear[mat.Tensor]{W: in[1], Bias: in[2], HasBias: true}, targets, 0.75).Tensor
			},
			func(in [][]float64) []float64 {
				return refCrossEntropy(refLinear(in[0], in[1], in[2], 5, 7), targets, 0.75)
			},
		})
	}
	return cases
}

// sharedCases use a tensor more than once.
func sharedCases() []opCase {
	ids, targets := []int32{1, 4, 1}, []int32{4, 1, -1}
	a, b := ops.Attention[mat.Tensor]{Heads: 2, KVHeads: 2, HeadDim: 3, Scale: 1, Causal: true}, ops.Batch{Seqs: 1, Len: 4}
	return []opCase{
		{
			"x + y",
			[][2]int{{3, 4}, {3, 4}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Add(in[0], in[1]) },
			func(in [][]float64) []float64 { return refAdd(in[0], in[1]) },
		},
		{
			"x + x",
			[][2]int{{3, 4}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Add(in[0], in[0]) },
			func(in [][]float64) []float64 { return refAdd(in[0], in[0]) },
		},
		{
			"x + 3x",
			[][2]int{{3, 4}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Add(in[0], e.Scale(in[0], 3)) },
			func(in [][]float64) []float64 { return refAdd(refAdd(in[0], in[0]), refAdd(in[0], in[0])) },
		},
		{
			"clip",
			[][2]int{{3, 4}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Clip(in[0], 0.6) },
			func(in [][]float64) []float64 {
				y := slices.Clone(in[0])
				for i := range y {
					y[i] = math.Max(-0.6, math.Min(0.6, y[i]))
				}
				return y
			},
		},
		{
			"queries that are their own keys and values",
			[][2]int{{4, 6}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Attend(in[0], in[0], in[0], a, b) },
			func(in [][]float64) []float64 { return refAttend(in[0], in[0], in[0], a, b) },
		},
		{
			"a result consumed five times",
			[][2]int{{3, 4}, {4, 4}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				y := e.Linear(in[0], ops.Linear[mat.Tensor]{W: in[1]})
				z := e.Add(e.Gate(y, y, activation.SiLU), e.Linear(y, ops.Linear[mat.Tensor]{W: in[1]}))
				return e.Add(z, e.Add(y, y))
			},
			func(in [][]float64) []float64 {
				y := refLinear(in[0], in[1], nil, 4, 4)
				return refAdd(refAdd(refGate(y, y, activation.SiLU), refLinear(y, in[1], nil, 4, 4)), refAdd(y, y))
			},
		},
		{
			"a head tied to the embedding",
			[][2]int{{6, 5}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.LinearCrossEntropy(e.Embed(in[0], ids, 0), ops.Linear[mat.Tensor]{W: in[0]}, targets, 1).Tensor
			},
			func(in [][]float64) []float64 {
				return refCrossEntropy(refLinear(refEmbed(in[0], 5, ids), in[0], nil, 5, 6), targets, 1)
			},
		},
		{
			"results that nothing uses",
			[][2]int{{3, 4}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				y := e.Activate(in[0], activation.SiLU)
				e.Add(y, in[0])
				z := e.Add(y, y)
				e.Activate(z, activation.ReLU)
				return z
			},
			func(in [][]float64) []float64 {
				y := refGate(in[0], slices.Repeat([]float64{1}, 12), activation.SiLU)
				return refAdd(y, y)
			},
		},
	}
}
