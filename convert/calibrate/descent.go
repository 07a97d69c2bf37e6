package calibrate

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
)

// Fit says what a descent gained: errors on held-out text.
type Fit struct {
	Before float64
	After  float64
	Steps  int     // made before held-out text told to stop
	Rate   float64 // of learning, relative to a weight's own size
}

// Descent is by Adam (Kingma & Ba, arXiv 1412.6980).
const (
	beta1, beta2 = 0.9, 0.98
	checks       = 8 // of held-out text
	patience     = 3 // checks without a gain before the end
)

// descent fits weights, in place, so that a loss falls: one batch a step, held-out batches telling when to stop and what
// to go back to.
type descent struct {
	engine      *tap
	loss        func(batch int) (spago.Tensor, error)
	weights     []*fitted
	train, held []int // batches
	order       []int // batches of this epoch that are left
	random      *rand.Rand
	rates       []float64 // to try, from large to small, relative to each weight's root mean square
}

// fitted is a weight with Adam's averages.
type fitted struct {
	param  *spago.Weight
	values []float32 // the weight itself
	best   []float32
	m, v   []float32
	size   float64 // root mean square at the start
}

// split holds out a sixteenth of the batches. A single one must serve for both.
func (d *descent) split(batches int) {
	for i := range batches {
		d.train = append(d.train, i)
	}
	held := max(1, batches/16)
	d.held = d.train[batches-held:]
	if batches > 1 {
		d.train = d.train[:batches-held]
	}
}

// fit adds a weight [rows, len(values)/rows] to those that are fitted.
func (d *descent) fit(values []float32, rows int) spago.Tensor {
	x := &fitted{values: values, param: spago.Trainable(values, rows, len(values)/rows)}
	d.weights = append(d.weights, x)
	return x.param
}

// begin forgets what was learned; the weights are as they are.
func (d *descent) begin() {
	for _, x := range d.weights {
		x.m, x.v = make([]float32, len(x.values)), make([]float32, len(x.values))
		x.size = math.Sqrt(kernels.SumSquares(x.values)/float64(len(x.values))) + 1e-12
	}
}

// save has the weights as they are the ones to go back to.
func (d *descent) save() {
	for _, x := range d.weights {
		x.best = append(x.best[:0], x.values...)
	}
}

func (d *descent) goBack() {
	for _, x := range d.weights {
		copy(x.values, x.best)
	}
}

// descend makes the steps at the first of the rates by which they gain anything.
func (d *descent) descend(ctx context.Context, steps int) (Fit, error) {
	before, err := d.check(ctx)
	if err != nil {
		return Fit{}, err
	}
	d.save()
	fit := Fit{Before: before, After: before}
	for _, fit.Rate = range d.rates {
		if err := d.attempt(ctx, &fit, steps); err != nil || fit.Steps > 0 {
			return fit, err
		}
	}
	return fit, nil
}

// attempt makes the steps at fit's rate, and leaves the best weights that it met.
func (d *descent) attempt(ctx context.Context, fit *Fit, steps int) error {
	d.begin()
	every, stale := max(1, steps/checks), 0
	for s := 1; s <= steps && stale < patience; s++ {
		if err := d.step(ctx, s, fit.Rate*decay(s, steps)); err != nil {
			return err
		}
		if s%every > 0 && s < steps {
			continue
		}
		now, err := d.check(ctx)
		if err != nil {
			return err
		}
		stale++
		if now < fit.After {
			fit.After, fit.Steps, stale = now, s, 0
			d.save()
		}
	}
	d.goBack()
	return nil
}

// decay is a half cosine from one to zero.
func decay(step, steps int) float64 {
	return 0.5 * (1 + math.Cos(math.Pi*float64(step-1)/float64(steps)))
}

// check is the mean loss on held-out text.
func (d *descent) check(ctx context.Context) (float64, error) {
	sum := 0.0
	for _, i := range d.held {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		loss, err := d.loss(i)
		if err != nil {
			return 0, err
		}
		sum += loss.Item().F64()
		d.engine.Reset()
	}
	if math.IsNaN(sum) {
		sum = math.Inf(1)
	}
	return sum / float64(len(d.held)), nil
}

// step is step s, from 1, on the next batch.
func (d *descent) step(ctx context.Context, s int, rate float64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(d.order) == 0 {
		d.order = slices.Clone(d.train)
		d.random.Shuffle(len(d.order), func(i, j int) { d.order[i], d.order[j] = d.order[j], d.order[i] })
	}
	i := d.order[0]
	d.order = d.order[1:]
	loss, err := d.loss(i)
	if err != nil {
		return err
	}
	if err := d.engine.Backward(loss); err != nil {
		return err
	}
	for _, x := range d.weights {
		if g := spago.Grad(x.param); g != nil {
			adam := kernels.AdamW{LR: rate * x.size, Beta1: beta1, Beta2: beta2, Eps: 1e-12}
			adam.Step(x.values, g, x.m, x.v, 1, s)
		}
		x.param.ZeroGrad()
	}
	return nil
}
