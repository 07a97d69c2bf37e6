package calibrate

import (
	"context"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
)

// Refine fits q, k, v and o of a layer, in place, to the target output of its attention, with steps of descent on one
// batch each. Errors are squared and relative to the target. onStep is called after each step.
func (w *Walk) Refine(ctx context.Context, layer int, changed Weights, steps int, onStep func()) (Fit, error) {
	d := newDescent(w.engine, len(w.batches), w.seed, uint64(layer), 0.02, 0.006, 0.002)
	w.attachTo(d, layer, changed)
	d.onStep = onStep
	d.loss = func(i int) (spago.Tensor, float64, error) { return w.attentionLoss(layer, i) }
	defer d.free()
	return d.descend(ctx, steps)
}

// leastSize replaces a squared size of zero, so that errors relative to it are finite in float32.
const leastSize = 1e-30

// attachTo gives the student a layer whose changed weights are fitted by d.
func (w *Walk) attachTo(d *descent, layer int, changed Weights) {
	rest, params := w.attach(layer, changed), map[string]spago.Tensor{}
	for _, p := range w.converted {
		if values, ok := changed[p.Name]; ok && p.Name == configs.ParamName(p.Role, layer, p.Bias) {
			params[p.Name] = d.fit(values, p.Shape[0])
		}
	}
	w.student.SetLayer(layer, rest.or(w.engine, &w.learnt, params))
}

// attentionLoss returns the relative squared error of the student's attention on batch i.
func (w *Walk) attentionLoss(layer, i int) (spago.Tensor, float64, error) {
	x, err := w.states.get(input, i)
	if err != nil {
		return nil, 0, err
	}
	y, err := w.states.get(target, i)
	if err != nil {
		return nil, 0, err
	}
	given, err := w.attend(layer, i, x)
	if err != nil {
		return nil, 0, err
	}
	size := max(w.engine.Device().Sum(device.Term{X: y, Weight: 1, Squares: true})(), leastSize)
	loss, number := w.engine.SquaredErrorTo(given, y, float32(1/size))
	return loss, number(), nil
}
