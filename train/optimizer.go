package train

import (
	"math"

	"github.com/nlpodyssey/spago/nn"

	"gqa/configs"
	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
)

// optimizer is AdamW over all weights, or Muon over the layers' matrices and AdamW over the rest, with its gradient clipping.
type optimizer struct {
	spec  configs.Optimizer
	slots []slot
	muon  []*slot // those of slots that go by Muon
}

// slot is one weight with the averages that are kept of its gradient and, for AdamW, of the gradient's square.
type slot struct {
	name  string
	shape []int
	param *nn.Param
	m, v  []float32 // no v: it goes by Muon
	mean  []float32 // of the weight over the steps; nil: none is kept
	decay float64
	rate  float64 // times the learning rate
}

func newOptimizer(spec configs.Optimizer, arch *configs.Arch, params *spago.Params) (*optimizer, error) {
	shapes, err := arch.Params()
	if err != nil {
		return nil, err
	}
	o, memory := &optimizer{spec: spec, slots: make([]slot, len(params.List))}, kernels.Slab{}
	for i, p := range params.List {
		n, s := p.Size(), &o.slots[i]
		*s = slot{name: params.Names[i], shape: shapes[i].Shape, param: p, m: memory.Make(n), rate: 1}
		if shapes[i].Role.IsAttention() {
			s.rate = spec.AttentionRate
		}
		if spec.Decay == configs.DecayAll || len(s.shape) > 1 {
			s.decay = spec.WeightDecay
		}
		if spec.Name == configs.Muon && shapes[i].Hidden() {
			o.muon = append(o.muon, s)
		} else {
			s.v = memory.Make(n)
		}
		if spec.Average > 0 {
			s.mean = memory.Make(n)
			copy(s.mean, spago.Data(p))
		}
	}
	return o, nil
}

// gradNorm is the norm of all gradients as one vector, summed in float64 in the order of the weights.
func (o *optimizer) gradNorm() float64 {
	sum := 0.0
	for _, s := range o.slots {
		sum += kernels.SumSquares(spago.Grad(s.param))
	}
	return math.Sqrt(sum)
}

// clipScale is what torch.nn.utils.clip_grad_norm_ multiplies gradients of the given norm by; a limit of 0 is none.
func clipScale(norm, limit float64) float32 {
	if limit == 0 {
		return 1
	}
	return float32(min(1, limit/(norm+1e-6)))
}

// step makes step t, from 1, at a learning rate, on gradients of the given norm, and forgets them. A weight without a
// gradient stays as it is.
func (o *optimizer) step(t int, lr, norm float64) {
	scale := clipScale(norm, o.spec.Clip)
	for _, s := range o.slots {
		if g := spago.Grad(s.param); g != nil && s.v != nil {
			adamw := kernels.AdamW{LR: lr * s.rate, Beta1: o.spec.Beta1, Beta2: o.spec.Beta2, Eps: o.spec.Eps, Decay: s.decay}
			adamw.Step(spago.Data(s.param), g, s.m, s.v, scale, t)
		}
	}
	kernels.For(len(o.muon), 1, func(lo, hi int) { // small products are faster side by side than each on all threads
		for _, s := range o.muon[lo:hi] {
			if g := spago.Grad(s.param); g != nil {
				muon := kernels.Muon{LR: lr * s.rate, Size: muonSize, Momentum: o.spec.Beta1, Decay: s.decay}
				muon.Step(spago.Data(s.param), g, s.m, s.shape[0], s.shape[1], scale)
			}
		}
	})
	for _, s := range o.slots {
		s.param.ZeroGrad()
		if s.mean != nil {
			kernels.Lerp(s.mean, spago.Data(s.param), float32(max(1-o.spec.Average, 1/float64(t))))
		}
	}
}

// average has the model compute with the average of its weights while f runs, if one is kept. The average is the mean of all
// steps' weights until there are 1/(1-Average) of them and from then on exponential: the weights before the first step are
// not in it.
func (o *optimizer) average(f func()) {
	o.swap()
	defer o.swap()
	f()
}

func (o *optimizer) swap() {
	for _, s := range o.slots {
		if s.mean != nil {
			kernels.Swap(spago.Data(s.param), s.mean)
		}
	}
}

// muonSize has a step of Muon be about as long as one of AdamW at the same rate (Liu et al. 2025, arXiv 2502.16982, equation
// 4), so that one rate does for both.
const muonSize = 0.2

// finite reports whether weights and averages hold numbers only.
func (o *optimizer) finite() bool {
	for _, s := range o.slots {
		for _, values := range [][]float32{spago.Data(s.param), s.m, s.v, s.mean} {
			if !isFinite(kernels.SumSquares(values)) {
				return false
			}
		}
	}
	return true
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
