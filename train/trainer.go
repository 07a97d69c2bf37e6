package train

import (
	"fmt"

	"github.com/nlpodyssey/spago/mat"

	"gqa/configs"
	"gqa/internal/engine/spago"
	"gqa/internal/model"
	"gqa/internal/objective"
)

// trainer is a model in training: its weights, which steps change in place, and what a step needs beside them.
type trainer struct {
	recipe    *configs.Recipe
	engine    *spago.Engine
	model     *model.Model[mat.Tensor]
	optimizer *optimizer
	objective objective.Objective
	teacher   *teacher // nil: none
}

// newTrainer trains the weights all, by the forward pass's names, in place.
func newTrainer(recipe *configs.Recipe, arch *configs.Arch, all map[string][]float32) (*trainer, error) {
	params, err := spago.NewParams(arch, all)
	if err != nil {
		return nil, err
	}
	o, err := newOptimizer(recipe.Optimizer, arch, params)
	return &trainer{
		recipe: recipe, engine: spago.New(), model: params.Model(arch), optimizer: o, objective: objective.NextToken{},
	}, err
}

// outcome is what one step saw: the loss before it in nats per token, with its parts where there is a teacher, the norm of
// its gradient before clipping, its learning rate.
type outcome struct {
	loss, gradNorm, lr float64
	parts              spago.Parts
}

// step makes step n, from 1, on Accumulate micro-batches of Batch windows each. A loss or gradient that is not a finite
// number is an error, and the weights stay as they were.
func (t *trainer) step(n int, windows [][]int32) (outcome, error) {
	out := outcome{lr: t.recipe.Optimizer.LR * t.recipe.Schedule.At(n, t.recipe.Steps)}
	for at := 0; at < len(windows); at += t.recipe.Batch {
		batch := windows[at:min(at+t.recipe.Batch, len(windows))]
		if err := t.accumulate(&out, (n-1)*len(windows)+at, batch); err != nil {
			return out, err
		}
	}
	out.gradNorm = t.optimizer.gradNorm()
	if !isFinite(out.gradNorm) {
		return out, fmt.Errorf("the gradient norm is %v", out.gradNorm)
	}
	t.optimizer.step(n, out.lr, out.gradNorm)
	return out, nil
}

// accumulate adds the gradient of one micro-batch's share of the step's loss, and that share to out. The micro-batch is the
// run's windows number first and on.
func (t *trainer) accumulate(out *outcome, first int, windows [][]int32) error {
	share := 1 / float32(t.recipe.Accumulate)
	var loss mat.Tensor
	if t.teacher == nil {
		loss = t.loss(windows, share)
	} else {
		said, err := t.teacher.read(first, windows)
		if err != nil {
			return err
		}
		var parts spago.Parts
		batch, targets := t.objective.Batch(windows)
		loss, parts = t.engine.LinearDistillation(t.model.Hidden(t.engine, batch), t.model.Head(), targets, said, share)
		if isFinite(parts.CrossEntropy) && !isFinite(parts.Divergence) {
			t.engine.Reset()
			return fmt.Errorf("%w: the divergence from its predictions is %v", errTeacher, parts.Divergence)
		}
		out.parts.CrossEntropy += parts.CrossEntropy * float64(share)
		out.parts.Divergence += parts.Divergence * float64(share)
	}
	value := loss.Item().F64()
	if !isFinite(value) {
		t.engine.Reset()
		return fmt.Errorf("the loss is %v", value)
	}
	out.loss += value
	return t.engine.Backward(loss)
}

// loss records the mean loss over every prediction of the windows, times scale.
func (t *trainer) loss(windows [][]int32, scale float32) mat.Tensor {
	batch, targets := t.objective.Batch(windows)
	return t.engine.LinearCrossEntropy(t.model.Hidden(t.engine, batch), t.model.Head(), targets, scale)
}

// predictions counts what is predicted of the windows.
func (t *trainer) predictions(windows [][]int32) (n int) {
	_, targets := t.objective.Batch(windows)
	for _, target := range targets {
		if target >= 0 {
			n++
		}
	}
	return n
}

// evaluate is the mean loss over every prediction of the windows, without training on them.
func (t *trainer) evaluate(windows [][]int32) float64 {
	sum, all := 0.0, 0
	for lo := 0; lo < len(windows); lo += t.recipe.Batch {
		batch := windows[lo:min(lo+t.recipe.Batch, len(windows))]
		n := t.predictions(batch)
		t.engine.Still(func() { sum += t.loss(batch, 1).Item().F64() * float64(n) })
		t.engine.Reset()
		all += n
	}
	return sum / float64(max(all, 1))
}
