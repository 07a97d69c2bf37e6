package train

import (
	"math"

	"github.com/nlpodyssey/spago/nn"

	"gqa/configs"
	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
)

// optimizer is AdamW over all weights, with its gradient clipping.
type optimizer struct {
	spec  configs.Optimizer
	slots []slot
}

// slot is one weight with the averages that AdamW keeps of its gradient and of the gradient's square.
type slot struct {
	name  string
	shape []int
	param *nn.Param
	m, v  []float32
	decay float64
}

func newOptimizer(spec configs.Optimizer, arch *configs.Arch, params *spago.Params) (*optimizer, error) {
	shapes, err := arch.Params()
	if err != nil {
		return nil, err
	}
	o, memory := &optimizer{spec: spec}, kernels.Slab{}
	for i, p := range params.List {
		n := p.Size()
		s := slot{name: params.Names[i], shape: shapes[i].Shape, param: p, m: memory.Make(n), v: memory.Make(n)}
		if spec.Decay == configs.DecayAll || len(s.shape) > 1 {
			s.decay = spec.WeightDecay
		}
		o.slots = append(o.slots, s)
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
		if g := spago.Grad(s.param); g != nil {
			adamw := kernels.AdamW{LR: lr, Beta1: o.spec.Beta1, Beta2: o.spec.Beta2, Eps: o.spec.Eps, Decay: s.decay}
			adamw.Step(spago.Data(s.param), g, s.m, s.v, scale, t)
		}
		s.param.ZeroGrad()
	}
}

// finite reports whether weights and averages hold numbers only.
func (o *optimizer) finite() bool {
	for _, s := range o.slots {
		for _, values := range [][]float32{spago.Data(s.param), s.m, s.v} {
			if !isFinite(kernels.SumSquares(values)) {
				return false
			}
		}
	}
	return true
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
