// Package optim holds the optimizers that update parameters from gradients: AdamW, Adafactor and Muon. A step computes on all threads.
package optim

import (
	"math"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// AdamW is the optimizer of Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101), with the
// semantics of torch.optim.AdamW.
type AdamW struct {
	LR           float64 // learning rate of this step
	Beta1, Beta2 float64 // decay of the averages of g and g²
	Eps          float64 // added to the root, outside it
	Decay        float64 // weight decay, applied as p *= 1 - LR·Decay
}

// Step makes step t (the first is 1) on the parameters p with gradient g·gscale and the averages m and v, all of one
// length.
func (o AdamW) Step(p, g, m, v []float32, gscale float32, t int) {
	s := o.constants(gscale, t)
	if len(p) <= pool.BlockElements {
		simd.AdamW(p, g[:len(p)], m[:len(p)], v[:len(p)], &s)
		return
	}
	pool.For(len(p), pool.BlockElements, func(lo, hi int) {
		simd.AdamW(p[lo:hi], g[lo:hi], m[lo:hi], v[lo:hi], &s)
	})
}

func (o AdamW) constants(gscale float32, t int) simd.AdamWConstants {
	return simd.AdamWConstants{
		GScale: gscale,
		Keep:   float32(1 - o.LR*o.Decay),
		W1:     float32(1 - o.Beta1),
		Beta2:  float32(o.Beta2),
		W2:     float32(1 - o.Beta2),
		RSqrt:  float32(1 / math.Sqrt(1-math.Pow(o.Beta2, float64(t)))),
		Eps:    float32(o.Eps),
		LR:     float32(o.LR / (1 - math.Pow(o.Beta1, float64(t)))),
	}
}

// StepRef is the definition of Step, in float64.
func (o AdamW) StepRef(p, g, m, v []float32, gscale float32, t int) {
	c1, c2 := 1-math.Pow(o.Beta1, float64(t)), 1-math.Pow(o.Beta2, float64(t))
	for i := range p {
		d := float64(g[i]) * float64(gscale)
		m1 := o.Beta1*float64(m[i]) + (1-o.Beta1)*d
		v1 := o.Beta2*float64(v[i]) + (1-o.Beta2)*d*d
		x := float64(p[i])*(1-o.LR*o.Decay) - o.LR/c1*m1/(math.Sqrt(v1)/math.Sqrt(c2)+o.Eps)
		p[i], m[i], v[i] = float32(x), float32(m1), float32(v1)
	}
}
