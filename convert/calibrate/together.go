package calibrate

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// stateWeight is the weight of the error of one layer's states relative to the divergence in nats.
const stateWeight = 3

// pair is a whole model and the model it is converted to.
type pair struct {
	engine           *spago.Engine
	teacher, student *model.Model[spago.Tensor]
	constants        []spago.Tensor
	batches          []ops.Batch
	states           []device.Buffer // the teacher's states after each layer, for the current batch
	last             device.Buffer   // input of its head
	off              []float64       // each layer's error, summed over batches
}

// Changes are the weights of a converted model that replace the original's, keyed by the names of Arch.Params.
type Changes struct {
	Fitted Weights // fitted by Together, in place
	Fixed  Weights
}

// Together fits the attention of all layers at once, in place, so that the converted model matches the model src in its
// predictions (Kullback-Leibler divergence in nats) and in the states after each layer (squared error relative to the
// states). Fit reports the divergence or, for a model without predictions, the error of the states; layers reports the
// error of each layer's states. Each step uses a new batch of text for as long as d has any. onStep is called after
// each step.
func Together(
	ctx context.Context, dev device.Device, src *weights.Source, converted *configs.Arch, d Data, changed Changes, steps int, onStep func(),
) (fit Fit, layers []Fit, err error) {
	p, err := newPair(ctx, dev, src.Arch, d.Refining(steps))
	if err != nil {
		return Fit{}, nil, err
	}
	defer p.free()
	down := newDescent(p.engine, len(p.batches), d.Seed, 1<<32, 0.012, 0.004)
	defer down.free()
	down.loss, down.onStep = p.loss, onStep
	if err := p.load(ctx, src, converted, changed, down); err != nil {
		return Fit{}, nil, err
	}
	before, err := p.layersOff(ctx, down)
	if err != nil {
		return Fit{}, nil, err
	}
	if fit, err = down.descend(ctx, steps); err != nil {
		return fit, nil, err
	}
	after, err := p.layersOff(ctx, down)
	for i := range after {
		layers = append(layers, Fit{Before: before[i], After: after[i]})
	}
	return fit, layers, err
}

// newPair returns a pair without models, with its batches.
func newPair(ctx context.Context, dev device.Device, a *configs.Arch, d Data) (*pair, error) {
	batches, err := d.batches(a)
	p := &pair{engine: spago.New(dev), batches: batches, off: make([]float64, a.Layers)}
	p.engine.Until(ctx)
	return p, err
}

// layersOff returns the mean error of each layer's states on held-out text.
func (p *pair) layersOff(ctx context.Context, d *descent) ([]float64, error) {
	clear(p.off)
	if _, err := d.check(ctx); err != nil {
		return nil, err
	}
	off := slices.Clone(p.off)
	for i := range off {
		if off[i] /= float64(len(d.held)); math.IsNaN(off[i]) || math.IsInf(off[i], 0) {
			return nil, fmt.Errorf("layer %d: the error of the converted model's states is not a finite number: weights or activations are too large", i)
		}
	}
	return off, nil
}

// load builds both models from the weights of src.
func (p *pair) load(ctx context.Context, src *weights.Source, converted *configs.Arch, changed Changes, d *descent) error {
	own, err := loadAll(ctx, src)
	if err != nil {
		return err
	}
	p.teacher = model.New(src.Arch, own.constant(p.engine, &p.constants))
	params, err := converted.Params()
	if err != nil {
		return err
	}
	fitted := map[string]spago.Tensor{}
	for _, x := range params {
		if values, ok := changed.Fitted[x.Name]; ok {
			fitted[x.Name] = d.fit(values, x.Shape[0])
		}
	}
	maps.Copy(own.values, changed.Fixed) // same shapes as before
	maps.DeleteFunc(own.values, func(name string, _ []float32) bool {
		return !slices.ContainsFunc(params, func(x configs.Param) bool { return x.Name == name })
	})
	p.student = model.New(converted, own.or(p.engine, &p.constants, fitted))
	return nil
}

// loadAll reads all weights of src.
func loadAll(ctx context.Context, src *weights.Source) (named, error) {
	all := newNamed()
	params, err := src.Arch.Params()
	if err != nil {
		return all, err
	}
	for _, x := range params {
		if all.values[x.Name], err = src.Read(ctx, x); err != nil {
			return all, err
		}
		all.shapes[x.Name] = x.Shape
	}
	return all, nil
}

// loss returns the student's distance from the teacher on batch i, and the part of it that is divergence. Numbers are read only
// after all operations have been requested.
func (p *pair) loss(i int) (spago.Tensor, float64, error) {
	b := p.batches[i]
	scales := p.teach(b)
	var layers []device.Number
	var off spago.Tensor
	x := p.student.States(p.engine, b, func(x spago.Tensor) {
		layer := len(layers)
		loss, number := p.engine.SquaredErrorTo(x, p.states[layer], scales[layer])
		if layers = append(layers, number); off != nil {
			loss = p.engine.Add(off, loss)
		}
		off = loss
	})
	headless, divergence := p.student.Arch.Headless, 0.0
	if !headless {
		teacher := p.engine.TeacherOf(p.last, p.teacher.Head(), device.Distillation{Weight: 1, Temperature: 1})
		kl := p.engine.LinearDistillation(x, p.student.Head(), counted(b), teacher, 1)
		off = p.engine.Add(off, kl.Tensor)
		_, _, divergence = kl.Read()
	}
	sum := float32(0)
	for layer, number := range layers {
		n := number()
		p.off[layer] += n / stateWeight
		sum += float32(n)
	}
	if headless {
		divergence = float64(sum)
	}
	return off, divergence, nil
}

// counted returns targets for the tokens of b that are negative for padding.
func counted(b ops.Batch) []int32 {
	targets := make([]int32, len(b.IDs))
	for i, n := range b.Lens {
		for j := n; j < b.Len; j++ {
			targets[i*b.Len+j] = -1
		}
	}
	return targets
}

// teach runs the teacher on a batch, keeps the states after its layers, and returns the factors for their errors.
func (p *pair) teach(b ops.Batch) (scales []float32) {
	p.forget()
	var sizes []device.Number
	final := p.teacher.States(p.engine, b, func(x spago.Tensor) {
		states := p.engine.Copied(x)
		p.states = append(p.states, states)
		sizes = append(sizes, p.engine.Device().Sum(device.Term{X: states, Weight: 1, Squares: true}))
	})
	p.last = p.engine.Copied(final)
	p.engine.Reset()
	for _, size := range sizes {
		scales = append(scales, float32(stateWeight/max(size(), leastSize)))
	}
	return scales
}

// forget frees the states of a batch.
func (p *pair) forget() {
	for _, b := range append(p.states, p.last) {
		p.engine.Device().Free(b)
	}
	p.states, p.last = p.states[:0], device.Buffer{}
}

// free frees the memory of the models.
func (p *pair) free() {
	p.engine.Close()
	p.forget()
	for _, c := range p.constants {
		p.engine.Unload(c)
	}
}
