package calibrate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gqa/configs"
	"gqa/convert/merge"
	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
)

// Fit says how near the attention of a converted layer comes to what it should give: relative squared errors on held-out text.
type Fit struct {
	Before float64 // as merged
	After  float64 // as fitted
	Steps  int     // made before held-out text told to stop
	Rate   float64 // of learning, relative to a weight's own size
}

// Descent by Adam (Kingma & Ba, arXiv 1412.6980). Rates are relative to each weight's root mean square.
const (
	beta1, beta2 = 0.9, 0.98
	checks       = 10 // of held-out text in a descent
	patience     = 3  // checks without a gain before it ends
)

// rates are those that a descent may take; a short trial of each tells.
var rates = []float64{0.06, 0.02, 0.006}

// Refine fits q, k, v and o of a layer, in place, to the output wanted of its attention: steps of descent, each on one batch.
// It ends early where held-out text gains nothing, and goes back to the best. m is the moment of what the attention reads.
func (w *Walk) Refine(ctx context.Context, layer int, changed Weights, m *merge.Moment, steps int) (Fit, error) {
	white, err := newWhitening(m)
	if err != nil {
		return Fit{}, err
	}
	if err := white.inputs(ctx, w); err != nil {
		return Fit{}, err
	}
	d := w.newDescent(layer, changed)
	for _, name := range d.reading() {
		white.in(changed[name])
	}
	fit, err := d.descend(ctx, steps)
	for _, name := range d.reading() {
		white.out(changed[name])
	}
	return fit, err
}

// descent fits one layer's weights.
type descent struct {
	*Walk
	layer       int
	weights     []*fitted
	train, held []int // batches
	order       []int // batches of this epoch that are left
	random      *rand.Rand
}

// fitted is a weight with Adam's averages.
type fitted struct {
	name   string
	param  *spago.Weight
	values []float32 // the weight itself
	best   []float32
	m, v   []float32
	size   float64 // root mean square at the start
}

func (w *Walk) newDescent(layer int, changed Weights) *descent {
	d := &descent{Walk: w, layer: layer, random: rand.New(rand.NewPCG(w.seed, uint64(layer)))}
	rest := w.attach(layer, changed)
	params := map[string]spago.Tensor{}
	for _, p := range w.converted {
		values, ok := changed[p.Name]
		if !ok {
			continue
		}
		x := &fitted{name: p.Name, values: values, param: spago.Trainable(values, p.Shape[0], len(values)/p.Shape[0])}
		d.weights, params[p.Name] = append(d.weights, x), x.param
	}
	w.student.SetLayer(layer, func(name string) (spago.Tensor, bool) {
		if t, ok := params[name]; ok {
			return t, true
		}
		return rest.constant(name)
	})
	for i := range w.batches {
		d.train = append(d.train, i)
	}
	held := max(1, len(w.batches)/16)
	d.held = d.train[len(d.train)-held:]
	if len(d.train) > 1 { // else there is one window, which must serve for both
		d.train = d.train[:len(d.train)-held]
	}
	return d
}

// reading are the weights that the attention's input goes through.
func (d *descent) reading() []string {
	var names []string
	for _, role := range []configs.Role{configs.Q, configs.K, configs.V} {
		names = append(names, configs.ParamName(role, d.layer, false))
	}
	return names
}

// begin forgets what a descent has learned; the weights are as they are.
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

// descend makes the steps, at the best of the rates.
func (d *descent) descend(ctx context.Context, steps int) (Fit, error) {
	before, err := d.check(ctx)
	if err != nil {
		return Fit{}, err
	}
	fit := Fit{Before: before, After: before}
	d.save()
	if fit.Rate, err = d.chooseRate(ctx, steps); err != nil {
		return fit, err
	}
	d.begin()
	every, stale := max(1, steps/checks), 0
	for s := 1; s <= steps && stale < patience; s++ {
		if err := d.step(ctx, s, fit.Rate*decay(s, steps)); err != nil {
			return fit, err
		}
		if s%every > 0 && s < steps {
			continue
		}
		now, err := d.check(ctx)
		if err != nil {
			return fit, err
		}
		stale++
		if now < fit.After {
			fit.After, fit.Steps, stale = now, s, 0
			d.save()
		}
	}
	d.goBack()
	return fit, nil
}

// decay is a half cosine from one to zero.
func decay(step, steps int) float64 {
	return 0.5 * (1 + math.Cos(math.Pi*float64(step-1)/float64(steps)))
}

// chooseRate tries each rate for a few steps from the weights as they are, and leaves those as they were.
func (d *descent) chooseRate(ctx context.Context, steps int) (float64, error) {
	best, rate := math.Inf(1), rates[len(rates)-1]
	for _, r := range rates {
		d.begin()
		for s := 1; s <= max(3, steps/20); s++ {
			if err := d.step(ctx, s, r); err != nil {
				return 0, err
			}
		}
		now, err := d.check(ctx)
		if err != nil {
			return 0, err
		}
		if now < best {
			best, rate = now, r
		}
		d.goBack()
	}
	return rate, nil
}

// check is the error on held-out text.
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

// loss is the relative squared error of batch i.
func (d *descent) loss(i int) (spago.Tensor, error) {
	x, err := d.get(input, i)
	if err != nil {
		return nil, err
	}
	y, err := d.get(target, i)
	if err != nil {
		return nil, err
	}
	b := d.batches[i]
	size := max(kernels.SumSquares(y), math.SmallestNonzeroFloat32)
	return d.engine.SquaredError(d.student.Attend(d.layer, d.engine, rows(x, b), b), y, float32(1/size)), nil
}

// step is step s of Adam, from 1, on the next batch.
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
		return fmt.Errorf("layer %d: %w", d.layer, err)
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
