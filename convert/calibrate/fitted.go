package calibrate

import (
	"context"
	"math"

	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
)

// fitted is a weight [rows, cols] under descent. Matrices go by Muon, vectors by Adam (arXiv 1412.6980).
type fitted struct {
	param      *spago.Weight
	values     []float32 // the weight itself
	rows, cols int
	best       []float32
	m, v       []float32 // averages of the gradient and, for Adam, of its square
	size       float64   // root mean square at the start
}

const (
	momentum = 0.9
	beta2    = 0.98
)

func newFitted(values []float32, rows int) *fitted {
	cols := len(values) / rows
	return &fitted{values: values, rows: rows, cols: cols, param: spago.Trainable(values, rows, cols)}
}

func (x *fitted) matrix() bool { return x.rows > 1 && x.cols > 1 }

// begin forgets what was learned; the weight is as it is.
func (x *fitted) begin() {
	x.m, x.v = make([]float32, len(x.values)), nil
	if !x.matrix() {
		x.v = make([]float32, len(x.values))
	}
	x.size = math.Sqrt(kernels.SumSquares(x.values)/float64(len(x.values))) + 1e-12
}

// step goes down the gradient, by about rate times the weight's size; s counts from 1. It ends early where ctx does.
func (x *fitted) step(ctx context.Context, rate float64, s int) {
	defer x.param.ZeroGrad()
	g := spago.Grad(x.param)
	switch {
	case g == nil:
	case x.matrix():
		muon := kernels.Muon{LR: rate, Size: x.size, Momentum: momentum, Stop: func() bool { return ctx.Err() != nil }}
		muon.Step(x.values, g, x.m, x.rows, x.cols, 1)
	default:
		adam := kernels.AdamW{LR: rate * x.size, Beta1: momentum, Beta2: beta2, Eps: 1e-12}
		adam.Step(x.values, g, x.m, x.v, 1, s)
	}
}
