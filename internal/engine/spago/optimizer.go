package spago

import (
	"math"

	"github.com/nlpodyssey/spago/nn"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
)

// optimizer is AdamW or Adafactor for all weights, or Muon for the layers' matrices and AdamW for the rest, with gradient clipping.
type optimizer struct {
	device device.Device
	spec   recipe.Optimizer
	slots  []slot
	scale  device.Buffer // a number, which gradients are multiplied by
	guard  func(norm float64) bool
	shards *shards // nil: this process does all the work
}

// slot is a weight with averages: of its gradient, by AdamW and Muon, and of the gradient's square, by AdamW and Adafactor. Adafactor
// keeps those of a matrix by rows and by columns. Others are omitted. Among several processes, m, v and what a weight in two parts lacks
// are those of the numbers [lo, hi).
type slot struct {
	name   string
	shape  []int
	param  *nn.Param
	muon   bool     // its step is Muon's; otherwise AdamW's or Adafactor's
	whole  bool     // its step needs all its numbers, as Muon's and Adafactor's do: one process makes it
	keeps  []string // prefixes of the names of its averages
	m, v   average
	row    average
	col    average
	lo, hi int           // the numbers that this process updates
	mean   device.Buffer // average of the weight over the steps; omitted if none is kept
	decay  float64
	rate   float64 // factor on the learning rate
	part   bool    // the weight is not one of the model's but a part of an adapter
}

func newOptimizer(d device.Device, spec recipe.Optimizer, how Sharing, arch *configs.Arch, params *Params) (*optimizer, error) {
	shapes, err := arch.Params()
	if err != nil {
		return nil, err
	}
	o := &optimizer{device: d, spec: spec, scale: d.New(device.F32, 1)}
	for i, p := range params.List {
		switch v := valueOf(p); {
		case v.adapter != nil:
			for _, part := range v.adapter.parts(params.Names[i]) {
				o.add(part, shapes[i])
			}
		case !v.frozen:
			o.add(slot{name: params.Names[i], shape: shapes[i].Shape, param: p}, shapes[i])
		}
	}
	switch {
	case params.shards != nil:
		o.shards = params.shards
		o.shards.take(o.slots)
	case how.Group != nil:
		o.shards = newShards(d, how, o.slots)
	}
	for i := range o.slots {
		o.slots[i].allocate(o)
	}
	return o, nil
}

// add adds a weight that is, or belongs to, one of the model's.
func (o *optimizer) add(s slot, of configs.Param) {
	s.hi, s.rate = s.param.Size(), 1
	if of.Role.IsAttention() {
		s.rate = o.spec.AttentionRate
	}
	if o.spec.Decay == recipe.DecayAll || len(s.shape) > 1 {
		s.decay = o.spec.WeightDecay
	}
	s.muon = o.spec.Name == recipe.Muon && of.Hidden()
	s.whole = stepsWhole(o.spec, of)
	switch {
	case o.spec.Name == recipe.Adafactor && len(s.shape) > 1:
		s.keeps = []string{"row.", "col."}
	case o.spec.Name == recipe.Adafactor:
		s.keeps = []string{"v."}
	case s.muon:
		s.keeps = []string{"m."}
	default:
		s.keeps = []string{"m.", "v."}
	}
	o.slots = append(o.slots, s)
}

// stepsWhole reports whether the step of a weight, or of a part of its adapter, needs all its numbers.
func stepsWhole(o recipe.Optimizer, of configs.Param) bool {
	return o.Name == recipe.Adafactor || o.Name == recipe.Muon && of.Hidden()
}

// allocate gives a slot its averages, and drops what other processes keep of its weight.
func (s *slot) allocate(o *optimizer) {
	n := s.hi - s.lo
	switch {
	case s.whole && n == 0: // another process has them
	case o.spec.Name == recipe.Adafactor && len(s.shape) > 1:
		s.row, s.col = average{values: o.zeros(s.shape[0])}, average{values: o.zeros(n / s.shape[0])}
	case o.spec.Name == recipe.Adafactor:
		s.v = average{values: o.zeros(n)}
	case s.muon:
		s.m = average{values: o.zeros(n)}
	default:
		s.m, s.v = o.newAverages(n, s.param.Size())
	}
	if x := s.numbers(); o.spec.Average > 0 && !x.None() {
		s.mean = o.device.New(device.F32, x.Len())
		o.device.Copy(s.mean, x)
	}
	if v := valueOf(s.param); o.shards != nil && v.unit == nil && !v.rest.None() {
		own := o.device.New(device.Rest, s.hi-s.lo)
		o.device.Copy(own, v.rest.Slice(s.lo, s.hi))
		o.device.Free(v.rest)
		v.rest = own
	}
}

// formatGradients chooses the format of the gradients of matrices: that of activations, in which products write them, unless
// those of several micro-batches are added up. Muon computes with them in F32.
func (o *optimizer) formatGradients(added bool) {
	for _, s := range o.slots {
		v, format := valueOf(s.param), device.F32
		if !added && !s.muon {
			format = v.format()
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
	if o.guard != nil && !o.guard(norm()) {
		o.device.Write(o.scale, []float32{float32(math.NaN())})
	}
	var matrices []device.MuonStep
	var others []device.AdamWStep
	var factored []device.AdafactorStep
	for i := range o.slots {
		s := &o.slots[i]
		g := o.gradient(s)
		switch {
		case g.None():
		case o.spec.Name == recipe.Adafactor:
			factored = append(factored, o.factored(*s, g, lr))
		case s.muon:
			muon := device.Muon{LR: lr * s.rate, Size: muonSize, Momentum: o.spec.Beta1, Decay: s.decay}
			matrices = append(matrices, device.MuonStep{Muon: muon, P: s.numbers(), G: g, M: s.m.values, Rows: s.shape[0], Cols: s.shape[1]})
		default:
			adamw := device.AdamW{LR: lr * s.rate, Beta1: o.spec.Beta1, Beta2: o.spec.Beta2, Eps: o.spec.Eps, Decay: s.decay}
			p, copied := s.stepped()
			others = append(others, device.AdamWStep{
				AdamW: adamw, P: p, G: g, M: s.m.values, V: s.v.values, MScales: s.m.scales, VScales: s.v.scales, Copy: copied,
			})
		}
	}
	if len(factored) > 0 {
		o.device.Adafactor(factored, o.scale, t)
	} else {
		o.device.AdamW(others, o.scale, t)
		o.device.Muon(matrices, o.scale)
	}
	if o.shards != nil {
		if o.shards.units == nil {
			o.shards.gather()
		}
		o.shards.forget()
	}
	for _, s := range o.slots {
		s.param.ZeroGrad()
		if s.muon && (o.shards == nil || o.shards.units != nil) { // otherwise once it is here
			s.update(o.device)
		}
		if !s.mean.None() {
			o.device.Lerp(s.mean, s.numbers(), float32(max(1-o.spec.Average, 1/float64(t))))
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

// stepped returns what an optimizer changes: the weight, or one of its parts, and the copy or other part that products read.
func (s *slot) stepped() (p, copied device.Buffer) {
	if p = s.own(s.numbers()); p.None() {
		p = valueOf(s.param).rest
	}
	return p, s.own(s.copied())
}

// numbers returns the numbers of a weight that this process keeps: all or, with Sharing.Parameters, those that it updates. They are
// omitted if they are in two parts.
func (s *slot) numbers() device.Buffer {
	v := valueOf(s.param)
	if b := v.bucket; v.unit != nil && !b.copied {
		return b.mine(b.own, b.members[b.index(v)])
	}
	return v.data
}

// copied returns what products read of the same numbers, if that is a copy or one of two parts.
func (s *slot) copied() device.Buffer {
	v := valueOf(s.param)
	switch b := v.bucket; {
	case v.unit == nil:
		return v.compute
	case b.copied:
		return b.mine(b.own, b.members[b.index(v)])
	}
	return device.Buffer{}
}

// update makes the copy that products read follow the numbers.
func (s *slot) update(d device.Device) {
	if x, y := s.numbers(), s.copied(); !x.None() && !y.None() {
		d.Copy(y, x)
	}
}

// factored returns a weight's step of Adafactor.
func (o *optimizer) factored(s slot, g device.Buffer, lr float64) device.AdafactorStep {
	how := o.spec.Adafactor
	step := device.AdafactorStep{G: g, Row: s.row.values, Col: s.col.values, V: s.v.values, Rows: s.row.values.Len(), Cols: s.col.values.Len()}
	step.Adafactor = device.Adafactor{LR: lr * s.rate, Rate: how.DecayRate, Threshold: how.ClipThreshold, Decay: s.decay, Scale: how.Scales()}
	step.P, step.Copy = s.stepped()
	return step
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
			o.device.Swap(s.numbers(), s.mean)
			s.update(o.device)
		}
	}
}

// muonSize makes a step of Muon about as long as one of AdamW at the same rate (Liu et al. 2025, arXiv 2502.16982,
// equation 4), so that both can share a rate.
const muonSize = 0.2

// finite reports whether weights and averages are finite.
func (o *optimizer) finite() bool {
	for _, s := range o.slots {
		weight := s.numbers()
		if weight.None() {
			weight = s.copied() // the part that may not be finite
		}
		for _, values := range []average{{values: weight}, s.m, s.v, s.row, s.col, {values: s.mean}} {
			if values.values.Len() > 0 && !o.isFinite(values) {
				return false
			}
		}
	}
	return true
}

func (o *optimizer) isFinite(a average) bool {
	x := a.values
	if !a.scales.None() {
		x = a.scales // codes are finite
	}
	sum := o.device.Sum(device.Term{X: x, Weight: 1, Squares: true})()
	return !math.IsNaN(sum) && !math.IsInf(sum, 0)
}

// resultOf returns the numbers of a weight in the run's result: the average, if there is one.
func (o *optimizer) resultOf(p *nn.Param) device.Buffer {
	for _, s := range o.slots {
		if s.param == p && !s.mean.None() {
			return s.mean
		}
	}
	return Data(p)
}
