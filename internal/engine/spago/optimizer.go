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
	shards *shards       // nil: this process does all the work
}

// slot is a weight with the averages of its gradient and, for AdamW, of the gradient's square. Among several processes, m, v and what
// a weight in two parts lacks are those of the numbers [lo, hi).
type slot struct {
	name   string
	shape  []int
	param  *nn.Param
	muon   bool          // its step is Muon's, which needs the whole matrix; otherwise AdamW's
	m, v   device.Buffer // v is omitted for Muon
	lo, hi int           // the numbers that this process updates
	mean   device.Buffer // average of the weight over the steps; omitted if none is kept
	decay  float64
	rate   float64 // factor on the learning rate
}

func newOptimizer(d device.Device, spec recipe.Optimizer, how Sharing, arch *configs.Arch, params *Params) (*optimizer, error) {
	shapes, err := arch.Params()
	if err != nil {
		return nil, err
	}
	o := &optimizer{device: d, spec: spec, slots: make([]slot, len(params.List)), scale: d.New(device.F32, 1)}
	for i, p := range params.List {
		s := &o.slots[i]
		*s = slot{name: params.Names[i], shape: shapes[i].Shape, param: p, hi: p.Size(), rate: 1}
		if shapes[i].Role.IsAttention() {
			s.rate = spec.AttentionRate
		}
		if spec.Decay == recipe.DecayAll || len(s.shape) > 1 {
			s.decay = spec.WeightDecay
		}
		s.muon = spec.Name == recipe.Muon && shapes[i].Hidden()
		if spec.Average > 0 {
			s.mean = d.New(device.F32, p.Size())
			d.Copy(s.mean, Data(p))
		}
	}
	if how.Group != nil {
		o.shards = newShards(d, how, o.slots)
	}
	for i := range o.slots {
		o.slots[i].allocate(o)
	}
	return o, nil
}

// allocate gives a slot its averages, and drops what other processes keep of its weight.
func (s *slot) allocate(o *optimizer) {
	if s.m = o.zeros(s.hi - s.lo); !s.muon {
		s.v = o.zeros(s.hi - s.lo)
	}
	if v := valueOf(s.param); o.shards != nil && !v.rest.None() {
		own := o.device.New(device.Rest, s.hi-s.lo)
		o.device.Copy(own, v.rest.Slice(s.lo, s.hi))
		o.device.Free(v.rest)
		v.rest = own
	}
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
		if !added && !s.muon && !v.compute.None() {
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
	norm := o.norm()
	var matrices []device.MuonStep
	var others []device.AdamWStep
	for i := range o.slots {
		s := &o.slots[i]
		g := o.gradient(s)
		switch {
		case g.None():
		case s.muon:
			muon := device.Muon{LR: lr * s.rate, Size: muonSize, Momentum: o.spec.Beta1, Decay: s.decay}
			matrices = append(matrices, device.MuonStep{Muon: muon, P: Data(s.param), G: g, M: s.m, Rows: s.shape[0], Cols: s.shape[1]})
		default:
			adamw := device.AdamW{LR: lr * s.rate, Beta1: o.spec.Beta1, Beta2: o.spec.Beta2, Eps: o.spec.Eps, Decay: s.decay}
			step := device.AdamWStep{AdamW: adamw, P: s.own(Data(s.param)), G: g, M: s.m, V: s.v, Copy: s.own(valueOf(s.param).compute)}
			if step.P.None() {
				step.P = valueOf(s.param).rest
			}
			others = append(others, step)
		}
	}
	o.device.AdamW(others, o.scale, t)
	o.device.Muon(matrices, o.scale)
	if o.shards != nil {
		o.shards.gather()
		o.shards.forget()
	}
	for _, s := range o.slots {
		s.param.ZeroGrad()
		if s.muon && o.shards == nil {
			valueOf(s.param).updateCompute()
		}
		if !s.mean.None() {
			o.device.Lerp(s.mean, Data(s.param), float32(max(1-o.spec.Average, 1/float64(t))))
		}
	}
	return norm
}

// norm computes the factor for clipping, and returns the norm of all gradients.
func (o *optimizer) norm() device.Number {
	if o.shards != nil {
		o.shards.settle()
		total := o.shards.squares(o.slots)
		defer o.device.Free(total)
		return o.device.ClipScale(o.scale, o.spec.Clip, device.Term{X: total, Weight: 1})
	}
	var squares []device.Term
	for _, s := range o.slots {
		if g := Grad(s.param); !g.None() {
			squares = append(squares, device.Term{X: g, Weight: 1, Squares: true})
		}
	}
	return o.device.ClipScale(o.scale, o.spec.Clip, squares...)
}

// gradient returns the gradient of the numbers that this process updates.
func (o *optimizer) gradient(s *slot) device.Buffer {
	if o.shards != nil {
		return o.shards.gradient(s)
	}
	return Grad(s.param)
}

// own returns the numbers that this process updates.
func (s *slot) own(b device.Buffer) device.Buffer {
	if b.None() || s.hi-s.lo == b.Len() {
		return b
	}
	return b.Slice(s.lo, s.hi)
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
			if values.Len() == 0 {
				continue
			}
			if sum := o.device.Sum(device.Term{X: values, Weight: 1, Squares: true})(); math.IsNaN(sum) || math.IsInf(sum, 0) {
				return false
			}
		}
	}
	return true
}
