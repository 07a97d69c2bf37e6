package spago

import (
	"math"

	"github.com/nlpodyssey/spago/nn"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
)

// optimizer is AdamW for all weights, or Muon for the layers' matrices and AdamW for the rest, with gradient clipping.
type optimizer struct {
	device device.Device
	spec   recipe.Optimizer
	slots  []slot
	scale  device.Buffer // a number, which gradients are multiplied by
}

// slot is a weight with the averages of its gradient and, for AdamW, of the gradient's square.
type slot struct {
	name  string
	shape []int
	param *nn.Param
	m, v  device.Buffer // v is omitted for Muon
	mean  device.Buffer // average of the weight over the steps; omitted if none is kept
	decay float64
	rate  float64 // factor on the learning rate
}

func newOptimizer(d device.Device, spec recipe.Optimizer, arch *configs.Arch, params *Params) (*optimizer, error) {
	shapes, err := arch.Params()
	if err != nil {
		return nil, err
	}
	o := &optimizer{device: d, spec: spec, slots: make([]slot, len(params.List)), scale: d.New(device.F32, 1)}
	for i, p := range params.List {
		s := &o.slots[i]
		*s = slot{name: params.Names[i], shape: shapes[i].Shape, param: p, m: o.zeros(p.Size()), rate: 1}
		if shapes[i].Role.IsAttention() {
			s.rate = spec.AttentionRate
		}
		if spec.Decay == recipe.DecayAll || len(s.shape) > 1 {
			s.decay = spec.WeightDecay
		}
		if spec.Name != recipe.Muon || !shapes[i].Hidden() {
			s.v = o.zeros(p.Size())
		}
		if spec.Average > 0 {
			s.mean = d.New(device.F32, p.Size())
			d.Copy(s.mean, Data(p))
		}
	}
	return o, nil
}

func (o *optimizer) zeros(n int) device.Buffer {
	b := o.device.New(device.F32, n)
	o.device.Clear(b)
	return b
}

// formatGradients chooses the format of the gradients of matrices: that of activations, in which products write them, unless
// those of several micro-batches are added up. Muon computes with them in F32.
func (o *optimizer) formatGradients(added bool) {
	for _, s := range o.slots {
		v, format := valueOf(s.param), device.F32
		if !added && !s.v.None() && !v.compute.None() {
			format = v.compute.Format()
		}
		if format != v.gradFormat {
			v.gradFormat = format
			v.forgetGrad()
		}
	}
}

// step performs step t, counted from 1, at a learning rate, clears the gradients, and returns their norm as one vector, summed
// in float64 in the order of the weights. A weight without a gradient is not changed, and none is if the norm is not finite.
func (o *optimizer) step(t int, lr float64) device.Number {
	var squares []device.Term
	for _, s := range o.slots {
		if g := Grad(s.param); !g.None() {
			squares = append(squares, device.Term{X: g, Weight: 1, Squares: true})
		}
	}
	norm := o.device.ClipScale(o.scale, o.spec.Clip, squares...)
	var matrices []device.MuonStep
	var others []device.AdamWStep
	for _, s := range o.slots {
		g := Grad(s.param)
		switch {
		case g.None():
		case s.v.None():
			muon := device.Muon{LR: lr * s.rate, Size: muonSize, Momentum: o.spec.Beta1, Decay: s.decay}
			matrices = append(matrices, device.MuonStep{Muon: muon, P: Data(s.param), G: g, M: s.m, Rows: s.shape[0], Cols: s.shape[1]})
		default:
			adamw := device.AdamW{LR: lr * s.rate, Beta1: o.spec.Beta1, Beta2: o.spec.Beta2, Eps: o.spec.Eps, Decay: s.decay}
			step := device.AdamWStep{AdamW: adamw, P: Data(s.param), G: g, M: s.m, V: s.v, Copy: valueOf(s.param).compute}
			if step.P.None() {
				step.P = valueOf(s.param).rest
			}
			others = append(others, step)
		}
	}
	o.device.AdamW(others, o.scale, t)
	o.device.Muon(matrices, o.scale)
	for _, s := range o.slots {
		s.param.ZeroGrad()
		if s.v.None() {
			valueOf(s.param).updateCompute()
		}
		if !s.mean.None() {
			o.device.Lerp(s.mean, Data(s.param), float32(max(1-o.spec.Average, 1/float64(t))))
		}
	}
	return norm
}

// average runs f with the model computing with the average of its weights, if there is one. The average is the mean of
// all steps' weights for the first 1/(1-Average) steps, and exponential from then on; the weights before the first step
// are not included.
func (o *optimizer) average(f func()) {
	o.swap()
	defer o.swap()
	f()
}

func (o *optimizer) swap() {
	for _, s := range o.slots {
		if !s.mean.None() {
			o.device.Swap(Data(s.param), s.mean)
			valueOf(s.param).updateCompute()
		}
	}
}

// muonSize makes a step of Muon about as long as one of AdamW at the same rate (Liu et al. 2025, arXiv 2502.16982,
// equation 4), so that both can share a rate.
const muonSize = 0.2

// finite reports whether weights and averages are finite.
func (o *optimizer) finite() bool {
	for _, s := range o.slots {
		weight := Data(s.param)
		if weight.None() {
			weight = valueOf(s.param).compute // the part that may not be finite
		}
		for _, values := range []device.Buffer{weight, s.m, s.v, s.mean} {
			if sum := o.device.Sum(device.Term{X: values, Weight: 1, Squares: true})(); math.IsNaN(sum) || math.IsInf(sum, 0) {
				return false
			}
		}
	}
	return true
}

// result returns the weight of the run's result if it ended now, on the host: the average, if there is one.
func (s *slot) result() []float32 {
	v := valueOf(s.param)
	if !s.mean.None() {
		return v.device.Host(s.mean)
	}
	return v.host()
}

// statePart is a tensor that the next step needs besides the result, with the prefix of its name.
type statePart struct {
	prefix string
	values device.Buffer
}

// state returns what the next step needs besides the result: averages of gradients and, if the result is an average,
// the weight itself.
func (s *slot) state() (parts []statePart) {
	parts = append(parts, statePart{"m.", s.m})
	if !s.v.None() {
		parts = append(parts, statePart{"v.", s.v})
	}
	if !s.mean.None() {
		parts = append(parts, statePart{"w.", Data(s.param)})
	}
	return parts
}
