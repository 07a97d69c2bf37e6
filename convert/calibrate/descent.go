package calibrate

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	"gqa/internal/device"
	"gqa/internal/engine/spago"
)

// Fit is the result of a descent. Before and After are errors on held-out text.
type Fit struct {
	Before float64
	After  float64
	Steps  int     // steps made until the error on held-out text stopped improving
	Rate   float64 // learning rate, relative to the size of a weight
}

const (
	checks    = 8 // number of checks on held-out text
	patience  = 3 // checks without improvement before stopping
	mostHeld  = 4 // batches held out at most
	heldShare = 16
)

// descent fits weights, in place, to minimise a loss. Each step uses one batch; held-out batches decide when to stop
// and which weights to keep.
type descent struct {
	engine *spago.Engine
	// loss returns the loss on a batch and the error to report for it.
	loss        func(batch int) (loss spago.Tensor, err float64, _ error)
	weights     []*fitted
	train, held []int // batch numbers
	order       []int // batches left in this epoch
	random      *rand.Rand
	rates       []float64     // rates to try, in decreasing order, relative to each weight's root mean square
	onStep      func()        // called after each step; may be nil
	whole       device.Buffer // 1, the factor on gradients: they are not clipped
}

// newDescent holds out a sixteenth of the batches, up to mostHeld. A single batch must serve both purposes. seed and
// sequence determine the order of batches.
func newDescent(e *spago.Engine, batches int, seed, sequence uint64, rates ...float64) *descent {
	d := &descent{engine: e, random: rand.New(rand.NewPCG(seed, sequence)), rates: rates, whole: e.Device().Put([]float32{1})}
	for i := range batches {
		d.train = append(d.train, i)
	}
	held := min(max(1, batches/heldShare), mostHeld)
	d.held = d.train[batches-held:]
	if batches > 1 {
		d.train = d.train[:batches-held]
	}
	return d
}

// fit adds a weight [rows, len(values)/rows] to those being fitted.
func (d *descent) fit(values []float32, rows int) spago.Tensor {
	x := newFitted(d.engine, values, rows)
	d.weights = append(d.weights, x)
	return x.param
}

// free frees the memory of the weights being fitted.
func (d *descent) free() {
	d.engine.Reset()
	for _, x := range d.weights {
		d.engine.Unload(x.param)
		for _, b := range []device.Buffer{x.best, x.m, x.v} {
			d.engine.Device().Free(b)
		}
	}
	d.engine.Device().Unload(d.whole)
}

// descend makes steps at the first of the rates that improves the error.
func (d *descent) descend(ctx context.Context, steps int) (Fit, error) {
	d.engine.Until(ctx)
	before, err := d.check(ctx)
	if err != nil {
		return Fit{}, err
	}
	if math.IsInf(before, 0) {
		return Fit{}, errors.New("refine, step 0: the error on held-out text is not a finite number: weights or activations are too large")
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

// attempt makes steps at fit's rate, and keeps the best weights found.
func (d *descent) attempt(ctx context.Context, fit *Fit, steps int) error {
	for _, x := range d.weights {
		x.begin(d.engine.Device())
	}
	every, stale := max(1, steps/checks), 0
	for s := 1; s <= steps && stale < patience; s++ {
		if err := d.step(ctx, s, fit.Rate*decay(s, steps)); err != nil {
			return err
		}
		if s%every > 0 && s < steps {
			continue
		}
		stale++
		better, err := d.improve(ctx, fit, s)
		if err != nil {
			return err
		}
		if better {
			stale = 0
		}
	}
	for _, x := range d.weights {
		d.engine.Device().Copy(spago.Data(x.param), x.best)
		copy(x.values, d.engine.Values(x.param))
	}
	return d.engine.Device().Err()
}

// improve checks held-out text after a step, and saves the weights if the error is the smallest so far.
func (d *descent) improve(ctx context.Context, fit *Fit, step int) (bool, error) {
	now, err := d.check(ctx)
	if err != nil || !(now < fit.After) {
		return false, err
	}
	fit.After, fit.Steps = now, step
	d.save()
	return true, nil
}

// decay decreases linearly from one to zero.
func decay(step, steps int) float64 { return 1 - float64(step-1)/float64(steps) }

// save saves the current weights as those to return to.
func (d *descent) save() {
	for _, x := range d.weights {
		if x.best.None() {
			x.best = d.engine.Device().New(device.F32, len(x.values))
		}
		d.engine.Device().Copy(x.best, spago.Data(x.param))
	}
}

// check returns the mean error on held-out text.
func (d *descent) check(ctx context.Context) (float64, error) {
	sum := 0.0
	for _, i := range d.held {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		var off float64
		var err error
		d.engine.NoGrad(func() { _, off, err = d.loss(i) })
		if err != nil {
			return 0, err
		}
		sum += off
		d.engine.Reset()
	}
	if err := cmp.Or(ctx.Err(), d.engine.Device().Err()); err != nil {
		return 0, err
	}
	if math.IsNaN(sum) {
		sum = math.Inf(1)
	}
	return sum / float64(len(d.held)), nil
}

// step performs step s, counted from 1, on the next batch.
func (d *descent) step(ctx context.Context, s int, rate float64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	loss, _, err := d.loss(d.next())
	if err != nil {
		return err
	}
	if err := d.engine.Backward(loss); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.update(rate, s)
	if d.onStep != nil {
		d.onStep()
	}
	return nil
}

// update moves every weight down its gradient by about rate times the weight's size; s counts from 1.
func (d *descent) update(rate float64, s int) {
	var matrices []device.MuonStep
	var others []device.AdamWStep
	for _, x := range d.weights {
		g := spago.Grad(x.param)
		switch {
		case g.None():
		case x.matrix():
			o := device.Muon{LR: rate, Size: x.size, Momentum: momentum}
			matrices = append(matrices, device.MuonStep{Muon: o, P: spago.Data(x.param), G: g, M: x.m, Rows: x.rows, Cols: x.cols})
		default:
			o := device.AdamW{LR: rate * x.size, Beta1: momentum, Beta2: beta2, Eps: 1e-12}
			others = append(others, device.AdamWStep{AdamW: o, P: spago.Data(x.param), G: g, M: x.m, V: x.v})
		}
	}
	d.engine.Device().AdamW(others, d.whole, s)
	d.engine.Device().Muon(matrices, d.whole)
	for _, x := range d.weights {
		x.param.ZeroGrad()
	}
}

// next returns the next batch; each occurs once per epoch.
func (d *descent) next() int {
	if len(d.order) == 0 {
		d.order = slices.Clone(d.train)
		d.random.Shuffle(len(d.order), func(i, j int) { d.order[i], d.order[j] = d.order[j], d.order[i] })
	}
	i := d.order[0]
	d.order = d.order[1:]
	return i
}
