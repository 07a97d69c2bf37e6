package calibrate

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"gqa/configs"
	"gqa/internal/cpu/blas"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
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
	batches          []ops.Batch
	states           [][]float32 // the teacher's states after each layer, for the current batch
	off              []float64   // each layer's error, summed over batches
	last             []float32   // input of its head
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
	ctx context.Context, src *weights.Source, converted *configs.Arch, d Data, changed Changes, steps int, onStep func(),
) (fit Fit, layers []Fit, err error) {
	p, err := newPair(ctx, src.Arch, d.Refining(steps))
	if err != nil {
		return Fit{}, nil, err
	}
	down := newDescent(p.engine, len(p.batches), d.Seed, 1<<32, 0.012, 0.004)
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
func newPair(ctx context.Context, a *configs.Arch, d Data) (*pair, error) {
	batches, err := d.batches(a)
	p := &pair{engine: spago.New(cpu.New()), batches: batches, states: make([][]float32, a.Layers), off: make([]float64, a.Layers)}
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
	p.teacher = model.New(src.Arch, own.constant(p.engine))
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
	p.student = model.New(converted, own.or(p.engine, fitted))
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

// loss returns the student's distance from the teacher on batch i, and the part of it that is divergence.
func (p *pair) loss(i int) (spago.Tensor, float64, error) {
	b := p.batches[i]
	teacher := p.teach(b)
	layer := 0
	var off spago.Tensor
	x := p.student.States(p.engine, b, func(x spago.Tensor) {
		size := max(blas.SumSquares(p.states[layer]), leastSize)
		loss := p.engine.SquaredError(x, p.states[layer], float32(stateWeight/size))
		p.off[layer] += loss.Item().F64() / stateWeight
		if layer++; off != nil {
			loss = p.engine.Add(off, loss)
		}
		off = loss
	})
	if p.student.Arch.Headless {
		return off, off.Item().F64(), nil
	}
	kl := p.engine.LinearDistillation(x, p.student.Head(), counted(b), teacher, 1)
	_, _, divergence := kl.Read()
	return p.engine.Add(off, kl.Tensor), divergence, nil
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

// teach runs the teacher on a batch and keeps the states after its layers.
func (p *pair) teach(b ops.Batch) spago.Teacher {
	layer := 0
	final := p.teacher.States(p.engine, b, func(x spago.Tensor) {
		p.states[layer] = append(p.states[layer][:0], p.engine.Values(x)...)
		layer++
	})
	p.last = append(p.last[:0], p.engine.Values(final)...)
	p.engine.Reset()
	return p.engine.TeacherOf(p.last, p.teacher.Head(), device.Distillation{Weight: 1, Temperature: 1})
}
