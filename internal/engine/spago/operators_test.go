package spago

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gqa/internal/device"
	"gqa/internal/device/cpu"

	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"
)

// inputs returns parameters with normally distributed values, the same in every call.
func (c opCase) inputs() (list []*nn.Param, tensors []mat.Tensor) {
	r := rand.New(rand.NewPCG(7, uint64(len(c.shapes))))
	for _, s := range c.shapes {
		data := make([]float32, s[0]*s[1])
		for i := range data {
			data[i] = float32(r.NormFloat64())
		}
		p := &nn.Param{Matrix: newValue(cpu.New(), device.HostF32(data), s[0], s[1])}
		list, tensors = append(list, p), append(tensors, p)
	}
	return list, tensors
}

// weigh returns the gradients of the loss with respect to a result of n values: the loss is their product.
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
	values := slices.Clone(valueOf(y).ready().data.F32())
	rows, cols := valueOf(y).rows, valueOf(y).cols
	y.AccGrad(mat.NewDense[float32](mat.WithShape(rows, cols), mat.WithBacking(weigh(rows*cols))))
	if err := e.Backward(y); err != nil {
		t.Fatal(err)
	}
	return values
}

// loss returns the reference's loss.
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
				for _, x := range Data(p).F32() {
					wide[i] = append(wide[i], float64(x))
				}
			}
			y, want := c.backward(t, New(cpu.New()), in), c.ref(wide)
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
					if got := Grad(p).F32()[j]; !near(got, slope) {
						t.Errorf("input %d, value %d: gradient %v, want %v", i, j, got, slope)
					}
				}
			}
		})
	}
}

func grads(params []*nn.Param) (all [][]float32) {
	for _, p := range params {
		all = append(all, slices.Clone(Grad(p).F32()))
	}
	return all
}

// A frozen input gets no gradient, and the others' do not change.
func TestFrozen(t *testing.T) {
	for _, c := range opCases() {
		params, in := c.inputs()
		c.backward(t, New(cpu.New()), in)
		want := grads(params)
		for i := range params {
			params, in := c.inputs()
			params[i].SetRequiresGrad(false)
			c.backward(t, New(cpu.New()), in)
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
		e := New(cpu.New())
		y := c.backward(t, e, in)
		once := grads(params)
		if again := c.backward(t, e, in); !slices.Equal(again, y) {
			t.Errorf("%s: the second pass gives %v, want %v", c.name, again, y)
		}
		for i, p := range params {
			for j, got := range Grad(p).F32() {
				if want := 2 * once[i][j]; math.Abs(float64(got-want)) > 1e-5*(1+math.Abs(float64(want))) {
					t.Errorf("%s: input %d, value %d: gradient of two passes is %v, want %v", c.name, i, j, got, want)
				}
			}
			p.ZeroGrad()
			if Grad(p).F32() != nil || p.HasGrad() {
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

// Without trainable parameters the backward pass does nothing.
func TestAllFrozen(t *testing.T) {
	for _, c := range opCases() {
		params, in := c.inputs()
		for _, p := range params {
			p.SetRequiresGrad(false)
		}
		c.backward(t, New(cpu.New()), in)
		for i, p := range params {
			if Grad(p).F32() != nil {
				t.Errorf("%s: input %d has a gradient", c.name, i)
			}
		}
	}
}
