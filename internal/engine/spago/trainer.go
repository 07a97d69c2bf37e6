package spago

import (
	"github.com/nlpodyssey/spago/mat"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/engine"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// Trainer is a model in training on a device.
type Trainer struct {
	engine    *Engine
	params    *Params
	model     *model.Model[mat.Tensor]
	optimizer *optimizer
	recompute ops.Recompute

	batch   ops.Batch // of the last call of Accumulate, if Idle must make a pass
	targets []int32
}

var _ engine.Trainer = (*Trainer)(nil)

// NewTrainer returns a trainer, on d, of those weights that a recipe trains. On the CPU it modifies them in place.
func NewTrainer(d device.Device, r *recipe.Recipe, how engine.Economy, arch *configs.Arch, weights model.Weights) (*Trainer, error) {
	return NewSharing(d, r, how, Sharing{}, arch, weights)
}

// NewSharing is NewTrainer for one of several processes that train the same weights.
func NewSharing(
	d device.Device, r *recipe.Recipe, how engine.Economy, among Sharing, arch *configs.Arch, weights model.Weights,
) (*Trainer, error) {
	params, err := newTrained(d, r, among, arch, weights)
	if err != nil {
		return nil, err
	}
	return newSharing(d, r.Optimizer, how, among, arch, params)
}

func newSharing(d device.Device, o recipe.Optimizer, how engine.Economy, among Sharing, arch *configs.Arch, params *Params) (*Trainer, error) {
	optimizer, err := newOptimizer(d, o, among, arch, params)
	if err != nil {
		return nil, err
	}
	t := &Trainer{engine: New(d), params: params, model: params.Model(arch), optimizer: optimizer}
	t.Economise(how)
	if s := optimizer.shards; s != nil {
		t.engine.wrote = s.written
		if s.units != nil {
			t.engine.done = s.units.next
		}
	}
	return t, nil
}

// Economise implements engine.Trainer.
func (t *Trainer) Economise(how engine.Economy) {
	t.recompute = how.Recompute
	t.optimizer.formatGradients(how.MicroBatches > 1)
}

// Abandon implements engine.Trainer.
func (t *Trainer) Abandon() {
	t.engine.Reset()
	if s := t.optimizer.shards; s != nil {
		s.settle()
		s.forget()
	}
	for _, s := range t.optimizer.slots {
		s.param.ZeroGrad()
	}
}

// Accumulate implements engine.Trainer.
func (t *Trainer) Accumulate(b ops.Batch, targets []int32, lesson *engine.Lesson, share float32) (engine.Loss, error) {
	t.model.SetRecompute(t.recompute)
	shards := t.optimizer.shards
	if shards != nil {
		shards.begin()
		t.batch, t.targets = b, targets
		defer t.pass(training)()
		t.engine.counting = true
	}
	hidden := t.model.Hidden(t.engine, b)
	loss := t.loss(hidden, b, targets, lesson, share)
	t.engine.counting = false
	err := t.engine.Backward(loss.Tensor)
	if shards != nil {
		shards.flush()
	}
	return loss, err
}

// pass begins a pass, and returns what ends it.
func (t *Trainer) pass(kind passKind) (end func()) {
	s := t.optimizer.shards
	if s == nil || s.units == nil {
		return func() {}
	}
	s.units.begin(kind)
	return func() { s.units.end(kind) }
}

func (t *Trainer) loss(hidden mat.Tensor, b ops.Batch, targets []int32, lesson *engine.Lesson, share float32) Loss {
	if lesson == nil {
		return t.engine.LinearCrossEntropy(hidden, t.model.Head(), targets, share)
	}
	teacher := Teacher{Distillation: lesson.Distillation, Soft: device.Soft{K: lesson.K, IDs: lesson.IDs, LogP: lesson.LogP}}
	if lesson.Teacher != nil {
		teacher.Hidden = lesson.Teacher.Hidden(b)
		teacher.W, teacher.Bias = lesson.Teacher.Head()
	}
	return t.engine.LinearDistillation(hidden, t.model.Head(), targets, teacher, share)
}

// Step implements engine.Trainer.
func (t *Trainer) Step(n int, lr float64) device.Number { return t.optimizer.step(n, lr) }

// Guard implements engine.Trainer.
func (t *Trainer) Guard(allow func(norm float64) bool) { t.optimizer.guard = allow }

// Evaluate implements engine.Trainer.
func (t *Trainer) Evaluate(b ops.Batch, targets []int32) (loss float64) {
	defer t.pass(evaluating)()
	t.model.SetRecompute(ops.RecomputeLayer) // a layer's results are released after it
	t.engine.NoGrad(func() {
		l := t.engine.LinearCrossEntropy(t.model.Hidden(t.engine, b), t.model.Head(), targets, 1)
		loss, _, _ = l.Read()
	})
	t.engine.Reset()
	return loss
}

// Averaged implements engine.Trainer.
func (t *Trainer) Averaged(f func()) {
	t.Settle()
	t.optimizer.average(f)
}

// Finite implements engine.Trainer.
func (t *Trainer) Finite() bool {
	t.Settle()
	finite := t.optimizer.finite()
	if s := t.optimizer.shards; s != nil { // of another rank's part too
		return s.agree(finite)
	}
	return finite
}

// Settle implements engine.Trainer.
func (t *Trainer) Settle() {
	if s := t.optimizer.shards; s != nil {
		s.arrive()
	}
}

// Close implements engine.Trainer.
func (t *Trainer) Close() error {
	t.engine.Close()
	return nil
}
