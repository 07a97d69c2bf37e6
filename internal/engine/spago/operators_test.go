package spago

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

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
	return slices.Concat(linearCases(), normCases(), rotateCases(), attendCases(), activationCases(), lossCases(), sharedCases())
}

func linearCases() []opCase {
	ids := []int32{3, 0, 3, 4, 3}
	return []opCase{
		{
			"embed",
			[][2]int{{5, 6}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Embed(in[0], ids) },
			func(in [][]float64) []float64 { return refEmbed(in[0], 6, ids) },
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
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], Eps: eps})
			},
			func(in [][]float64) []float64 { return refNorm(in[0], in[1], nil, false, float64(float32(eps))) },
		},
		{
			"layer norm",
			[][2]int{{4, 9}, {9, 1}, {9, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], Bias: in[2], HasBias: true, Layer: true, Eps: eps})
			},
			func(in [][]float64) []float64 { return refNorm(in[0], in[1], in[2], true, float64(float32(eps))) },
		},
		{
			"layer norm without bias",
			[][2]int{{4, 9}, {9, 1}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				return e.Norm(in[0], ops.Norm[mat.Tensor]{W: in[1], Layer: true, Eps: eps})
			},
			func(in [][]float64) []float64 { return refNorm(in[0], in[1], nil, true, float64(float32(eps))) },
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
	return cases
}

func attendCases() (cases []opCase) {
	const heads, headDim = 4, 3
	b := ops.Batch{Seqs: 2, Len: 5}
	for _, groups := range []int{4, 2, 1} {
		for _, causal := range []bool{true, false} {
			a := ops.Attention{Heads: heads, KVHeads: groups, HeadDim: headDim, Scale: 0.5, Causal: causal}
			kv := [2]int{10, groups * headDim}
			cases = append(cases, opCase{
				fmt.Sprintf("attend, group size %d, causal %v", heads/groups, causal),
				[][2]int{{10, heads * headDim}, kv, kv},
				func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Attend(in[0], in[1], in[2], a, b) },
				func(in [][]float64) []float64 { return refAttend(in[0], in[1], in[2], a, b) },
			})
		}
	}
	return cases
}

func activationCases() (cases []opCase) {
	ones := slices.Repeat([]float64{1}, 21)
	for act := range refActivations {
		cases = append(cases, opCase{
			"activate " + string(act),
			[][2]int{{3, 7}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.Activate(in[0], act) },
			func(in [][]float64) []float64 { return refGate(in[0], ones, act) },
		}, opCase{
			"gate " + string(act),
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
			[][2]int{{4, 7}},
			func(e *Engine, in []mat.Tensor) mat.Tensor { return e.CrossEntropy(in[0], targets, 0.75) },
			func(in [][]float64) []float64 { return refCrossEntropy(in[0], targets, 0.75) },
		})
	}
	return cases
}

// sharedCases use a tensor more than once.
func sharedCases() []opCase {
	ids, targets := []int32{1, 4, 1}, []int32{4, 1, -1}
	a, b := ops.Attention{Heads: 2, KVHeads: 2, HeadDim: 3, Scale: 1, Causal: true}, ops.Batch{Seqs: 1, Len: 4}
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
				z := e.Add(e.Gate(y, y, "silu"), e.Linear(y, ops.Linear[mat.Tensor]{W: in[1]}))
				return e.Add(z, e.Add(y, y))
			},
			func(in [][]float64) []float64 {
				y := refLinear(in[0], in[1], nil, 4, 4)
				return refAdd(refAdd(refGate(y, y, "silu"), refLinear(y, in[1], nil, 4, 4)), refAdd(y, y))
			},
		},
		{
			"a head tied to the embedding",
			[][2]int{{6, 5}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				logits := e.Linear(e.Embed(in[0], ids), ops.Linear[mat.Tensor]{W: in[0]})
				return e.CrossEntropy(logits, targets, 1)
			},
			func(in [][]float64) []float64 {
				return refCrossEntropy(refLinear(refEmbed(in[0], 5, ids), in[0], nil, 5, 6), targets, 1)
			},
		},
		{
			"results that nothing uses",
			[][2]int{{3, 4}},
			func(e *Engine, in []mat.Tensor) mat.Tensor {
				y := e.Activate(in[0], "silu")
				e.Add(y, in[0])
				z := e.Add(y, y)
				e.Activate(z, "relu")
				return z
			},
			func(in [][]float64) []float64 {
				y := refGate(in[0], slices.Repeat([]float64{1}, 12), "silu")
				return refAdd(y, y)
			},
		},
	}
}

// inputs are parameters of normal values, the same at every call.
func (c opCase) inputs() (list []*nn.Param, tensors []mat.Tensor) {
	r := rand.New(rand.NewPCG(7, uint64(len(c.shapes))))
	for _, s := range c.shapes {
		data := make([]float32, s[0]*s[1])
		for i := range data {
			data[i] = float32(r.NormFloat64())
		}
		p := &nn.Param{Matrix: newValue(data, s[0], s[1])}
		list, tensors = append(list, p), append(tensors, p)
	}
	return list, tensors
}

// weigh are the gradients that flow into a result of n values: the loss is their product.
func weigh(n int) []float32 {
	r, w := rand.New(rand.NewPCG(11, 13)), make([]float32, n)
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	return w
}

// backward runs the operator and its gradient, and returns the result.
func (c opCase) backward(t *testing.T, e *Engine, in []mat.Tensor) []float32 {
	t.Helper()
	y := c.run(e, in)
	values := slices.Clone(valueOf(y).data)
	rows, cols := valueOf(y).rows(), valueOf(y).cols()
	y.AccGrad(mat.NewDense[float32](mat.WithShape(rows, cols), mat.WithBacking(weigh(rows*cols))))
	if err := e.Backward(y); err != nil {
		t.Fatal(err)
	}
	return values
}

// loss is the reference's.
func (c opCase) loss(in [][]float64) (sum float64) {
	y := c.ref(in)
	for i, w := range weigh(len(y)) {
		sum += float64(w) * y[i]
	}
	return sum
}

// near allows for float32: a few roundings of values of size 1 to 10.
func near(got float32, want float64) bool {
	return math.Abs(float64(got)-want) <= 2e-5*(1+math.Abs(want))
}

// TestGradients compares results with the reference, and gradients with its central differences, whose error at a step of
// 1e-5 is below 1e-9.
func TestGradients(t *testing.T) {
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			params, in := c.inputs()
			wide := make([][]float64, len(params))
			for i, p := range params {
				for _, x := range Data(p) {
					wide[i] = append(wide[i], float64(x))
				}
			}
			y, want := c.backward(t, New(), in), c.ref(wide)
			if len(y) != len(want) {
				t.Fatalf("%d values, want %d", len(y), len(want))
			}
			for i := range y {
				if !near(y[i], want[i]) {
					t.Errorf("value %d is %v, want %v", i, y[i], want[i])
				}
			}
			for i, p := range params {
				for j, x := range wide[i] {
					const h = 1e-5
					wide[i][j] = x + h
					above := c.loss(wide)
					wide[i][j] = x - h
					slope := (above - c.loss(wide)) / (2 * h)
					wide[i][j] = x
					if got := Grad(p)[j]; !near(got, slope) {
						t.Errorf("input %d, value %d: gradient %v, want %v", i, j, got, slope)
					}
				}
			}
		})
	}
}

func grads(params []*nn.Param) (all [][]float32) {
	for _, p := range params {
		all = append(all, slices.Clone(Grad(p)))
	}
	return all
}

// A frozen input gets no gradient, and the others' are what they were.
func TestFrozen(t *testing.T) {
	for _, c := range opCases() {
		params, in := c.inputs()
		c.backward(t, New(), in)
		want := grads(params)
		for i := range params {
			params, in := c.inputs()
			params[i].SetRequiresGrad(false)
			c.backward(t, New(), in)
			for j, got := range grads(params) {
				if j == i && got != nil {
					t.Errorf("%s: frozen input %d has a gradient", c.name, i)
				}
				if j != i && !slices.Equal(got, want[j]) {
					t.Errorf("%s: with input %d frozen, input %d's gradient is %v, want %v", c.name, i, j, got, want[j])
				}
			}
		}
	}
}

// Gradients of several backward passes add up until they are zeroed, also over the same memory.
func TestAccumulation(t *testing.T) {
	for _, c := range opCases() {
		params, in := c.inputs()
		e := New()
		y := c.backward(t, e, in)
		once := grads(params)
		if again := c.backward(t, e, in); !slices.Equal(again, y) {
			t.Errorf("%s: the second pass gives %v, want %v", c.name, again, y)
		}
		for i, p := range params {
			for j, got := range Grad(p) {
				if want := 2 * once[i][j]; math.Abs(float64(got-want)) > 1e-5*(1+math.Abs(float64(want))) {
					t.Errorf("%s: input %d, value %d: gradient of two passes is %v, want %v", c.name, i, j, got, want)
				}
			}
			p.ZeroGrad()
			if Grad(p) != nil || p.HasGrad() {
				t.Errorf("%s: input %d has a gradient after ZeroGrad", c.name, i)
			}
		}
		c.backward(t, e, in)
		for i, got := range grads(params) {
			if !slices.Equal(got, once[i]) {
				t.Errorf("%s: input %d: after ZeroGrad the gradient is %v, want %v", c.name, i, got, once[i])
			}
		}
	}
}

// Without a parameter to train there is nothing to do backwards.
func TestAllFrozen(t *testing.T) {
	for _, c := range opCases() {
		params, in := c.inputs()
		for _, p := range params {
			p.SetRequiresGrad(false)
		}
		c.backward(t, New(), in)
		for i, p := range params {
			if Grad(p) != nil {
				t.Errorf("%s: input %d has a gradient", c.name, i)
			}
		}
	}
}
