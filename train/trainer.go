package train

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/device"
	"gqa/internal/devices"
	"gqa/internal/engine"
	"gqa/internal/engine/spago"
	"gqa/internal/model"
)

// trainer is a model in training with what a step needs besides it.
type trainer struct {
	engine.Trainer
	device    device.Device
	recipe    *recipe.Recipe
	economy   economy
	ahead     *ahead // nil if nothing was computed ahead
	tight     bool   // there was not enough memory to compute ahead
	objective data.Objective
	teacher   *teacher // nil if there is none
}

// openDevice opens the device that a recipe names.
func openDevice(r *recipe.Recipe) (device.Device, error) {
	format := device.F32
	if r.Precision == "bf16" {
		format = device.BF16
	}
	d, err := devices.Open(cmp.Or(r.Device, devices.Auto), devices.Options{
		Activations: format, Nondeterministic: r.Deterministic != nil && !*r.Deterministic,
	})
	if err != nil {
		return nil, err
	}
	if d.Activations() != format {
		slog.Warn("precision has no effect on the processor, which computes in f32", "precision", r.Precision)
	}
	return d, nil
}

// newTrainer creates a trainer of weights on d. On the processor the weights are trained in place.
func newTrainer(d device.Device, recipe *recipe.Recipe, arch *configs.Arch, weights model.Weights) (*trainer, error) {
	t := &trainer{device: d, recipe: recipe, economy: economy{Recompute: recipe.Recompute, Windows: recipe.Batch}, objective: data.NextToken{}}
	var err error
	t.Trainer, err = spago.NewTrainer(d, recipe.Optimizer, t.economy.engine(recipe), arch, weights)
	return t, err
}

// outcome holds the figures of one step: the loss before it in nats per token, with its parts if there is a teacher, the
// norm of its gradient before clipping, and its learning rate.
type outcome struct {
	loss, gradNorm, lr       float64
	crossEntropy, divergence float64
}

// step makes step n, counted from 1, on Accumulate micro-batches of Batch windows each. If the device's memory does not
// suffice, the step is made again with less. If the gradient is not finite, step returns an error and leaves the weights
// unchanged. next are the windows of the step after it, if there is one: a device that queues operations is given them before
// the figures of this step are waited for.
func (t *trainer) step(n int, windows, next [][]int32) (outcome, error) {
	out := outcome{lr: t.recipe.Optimizer.LR * t.recipe.Schedule.At(n, t.recipe.Steps)}
	var losses []lossPart
	err := t.frugally(func() (err error) {
		losses, err = t.gradients(n, windows)
		return err
	})
	if err != nil {
		return out, err
	}
	norm := t.Step(n, out.lr)
	if err := t.Err(); err != nil { // this is not tried again, as some weights may have changed
		return out, err
	}
	if _, queues := t.device.(device.Queuer); queues && next != nil && !t.tight {
		t.workAhead(n+1, next)
	}
	out.gradNorm = norm()
	if noter, ok := t.device.(device.Noter); ok {
		for _, note := range noter.Notes() {
			slog.Warn(note)
		}
	}
	for _, loss := range losses {
		if err := t.read(&out, loss); err != nil {
			return out, err
		}
	}
	if !isFinite(out.gradNorm) {
		return out, fmt.Errorf("the gradient norm is %v", out.gradNorm)
	}
	return out, nil
}

// ahead is the part of a step that is computed before the figures of the step before it are known.
type ahead struct {
	step   int
	losses []lossPart
	err    error
}

// workAhead computes the gradients of step n. If there is not enough memory, it leaves them to the step.
func (t *trainer) workAhead(n int, windows [][]int32) {
	losses, err := t.gradients(n, windows)
	if errors.As(err, new(*device.MemoryError)) && t.recover() {
		t.tight = true
		return
	}
	t.ahead = &ahead{n, losses, err}
}

// gradients computes the gradients of step n, unless that was done ahead, and returns its losses.
func (t *trainer) gradients(n int, windows [][]int32) (losses []lossPart, err error) {
	if a := t.ahead; a != nil {
		if t.ahead = nil; a.step == n {
			return a.losses, a.err
		}
	}
	for at := 0; at < len(windows); at += t.recipe.Batch {
		more, err := t.accumulate((n-1)*len(windows)+at, windows[at:min(at+t.recipe.Batch, len(windows))])
		if err != nil {
			return nil, err
		}
		losses = append(losses, more...)
	}
	return losses, t.Err()
}

// lossPart is a loss, and the share of a step's loss that it is.
type lossPart struct {
	engine.Loss
	share float64
}

// accumulate adds the gradient of one micro-batch's share of the step's loss, and returns that share, in parts of as many
// windows as the memory allows. The micro-batch begins with the run's window number first.
func (t *trainer) accumulate(first int, windows [][]int32) (losses []lossPart, err error) {
	_, targets := t.objective.Batch(windows)
	all := max(counted(targets), 1)
	for at := 0; at < len(windows); at += t.economy.Windows {
		some := windows[at:min(at+t.economy.Windows, len(windows))]
		lesson, err := t.teacher.read(first+at, some)
		if err != nil {
			return nil, err
		}
		batch, targets := t.objective.Batch(some)
		share := float32(counted(targets)) / float32(all) / float32(t.recipe.Accumulate)
		if len(some) == len(windows) {
			share = 1 / float32(t.recipe.Accumulate) // also without any target
		}
		loss, err := t.Accumulate(batch, targets, lesson, share)
		if err != nil {
			return nil, err
		}
		losses = append(losses, lossPart{loss, float64(share)})
	}
	return losses, nil
}

// read waits for a part of the loss and adds it to out.
func (t *trainer) read(out *outcome, loss lossPart) error {
	value, ce, kl := loss.Read()
	if err := t.Err(); err != nil {
		return err
	}
	switch {
	case t.teacher != nil && isFinite(ce) && !isFinite(kl):
		return fmt.Errorf("%w: the divergence from its predictions is %v", errTeacher, kl)
	case !isFinite(value):
		return fmt.Errorf("the loss is %v", value)
	}
	out.loss += value
	out.crossEntropy += ce * loss.share
	out.divergence += kl * loss.share
	return nil
}

// counted returns the number of targets that count.
func counted(targets []int32) (n int) {
	for _, target := range targets {
		if target >= 0 {
			n++
		}
	}
	return n
}

// evaluate returns the mean loss over all predictions of the windows, without training on them.
func (t *trainer) evaluate(windows [][]int32) (loss float64, err error) {
	err = t.frugally(func() error {
		sum, all := 0.0, 0
		for lo := 0; lo < len(windows); lo += t.economy.Windows {
			batch, targets := t.objective.Batch(windows[lo:min(lo+t.economy.Windows, len(windows))])
			n := counted(targets)
			sum += t.Evaluate(batch, targets) * float64(n)
			all += n
		}
		loss = sum / float64(max(all, 1))
		return t.Err()
	})
	return loss, err
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
