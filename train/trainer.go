package train

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

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
	team      *team
	recipe    *recipe.Recipe
	economy   economy
	ahead     *ahead // nil if nothing was computed ahead
	tight     bool   // there was not enough memory to compute ahead
	objective data.Objective
	teacher   *teacher // nil if there is none
	watch     watch
}

// openDevice opens a device by its name, as a recipe wants it to compute.
func openDevice(r *recipe.Recipe, name string) (device.Device, error) {
	format := device.F32
	if r.Precision == "bf16" {
		format = device.BF16
	}
	d, err := devices.Open(name, devices.Options{
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
	return newTrainerIn(solo(d), recipe, arch, weights)
}

// newTrainerIn is newTrainer for one of a team's processes.
func newTrainerIn(among *team, recipe *recipe.Recipe, arch *configs.Arch, weights model.Weights) (*trainer, error) {
	t := &trainer{
		device: among.device, team: among, recipe: recipe, economy: economy{Recompute: recipe.Recompute, Windows: recipe.Batch}, objective: data.NextToken{},
	}
	var err error
	t.Trainer, err = spago.NewSharing(t.device, recipe, t.engineEconomy(), among.sharing(recipe), arch, weights)
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
	spiked, err := t.guard(losses)
	if err != nil {
		return out, err
	}
	norm := t.Step(n-t.watch.skipped, out.lr)
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
			if (!isFinite(out.gradNorm) || *spiked != "") && !errors.Is(err, errTeacher) && t.Err() == nil { // and so the weights are unchanged
				err = &badStep{err.Error()}
			}
			return out, err
		}
	}
	switch {
	case !isFinite(out.gradNorm):
		return out, &badStep{fmt.Sprintf("the gradient norm is %v", out.gradNorm)}
	case *spiked != "":
		return out, &badStep{*spiked}
	}
	return out, nil
}

// guard makes the next step depend on its losses, which it waits for, and on the norm of its gradient, if the recipe says so. spiked is
// why the step was not made, once it is due. All processes make the same decision: they sum their losses, and have the same norm.
func (t *trainer) guard(losses []lossPart) (spiked *string, err error) {
	limit, why := t.recipe.Skip.Spike, new(string)
	t.Guard(nil)
	if limit == 0 || len(t.watch.losses) < spikeLeast || t.watch.skipped >= t.recipe.Skip.Limit {
		return why, nil
	}
	sum := []float64{0}
	for _, loss := range losses {
		value, _, _ := loss.Read()
		sum[0] += value
	}
	if err := t.Err(); err != nil {
		return why, err
	}
	if err := t.team.Sum(sum); err != nil {
		return why, err
	}
	*why = spike("loss", sum[0], t.watch.losses, limit)
	t.Guard(func(norm float64) bool {
		if *why == "" {
			*why = spike("gradient norm", norm, t.watch.norms, limit)
		}
		return *why == ""
	})
	return why, nil
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
	if errors.As(err, new(*device.MemoryError)) && t.team.alone() && t.recover() {
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
	parts, calls := t.parts(len(windows), t.team.Rank()), 0
	if calls = len(parts); t.team.divides(t.recipe) != recipe.ShardOptimizer { // gradients are summed each time
		calls = t.rounds()
	}
	for i := range calls {
		if i == calls-1 {
			t.Final()
		}
		if i >= len(parts) {
			if err := t.Idle(); err != nil {
				return nil, err
			}
			continue
		}
		loss, err := t.accumulate((n-1)*len(windows), windows, parts[i])
		if err != nil {
			return nil, err
		}
		losses = append(losses, loss)
	}
	return losses, t.Err()
}

// lossPart is a loss, and the share of a step's loss that it is.
type lossPart struct {
	engine.Loss
	share float64
}

// accumulate adds the gradient of a portion's share of the step's loss, and returns that share. The step begins with the run's window
// number first.
func (t *trainer) accumulate(first int, windows [][]int32, p portion) (lossPart, error) {
	some := windows[p.lo:p.hi]
	lesson, err := t.teacher.read(first+p.lo, some)
	if err != nil {
		return lossPart{}, err
	}
	batch, targets := t.objective.Batch(some)
	share := 1 / float32(t.recipe.Accumulate) // also without any target
	if p.hi-p.lo < p.end-p.first {
		_, all := t.objective.Batch(windows[p.first:p.end])
		share = float32(counted(targets)) / float32(max(counted(all), 1)) / float32(t.recipe.Accumulate)
	}
	loss, err := t.Accumulate(batch, targets, lesson, share)
	return lossPart{loss, float64(share)}, err
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
		out.loss = value
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

// evaluate returns the mean loss over all predictions of the windows, without training on them. Processes share the work, and all get
// the number that one would.
func (t *trainer) evaluate(windows [][]int32) (loss float64, err error) {
	t.Settle()
	err = t.frugally(func() error {
		batches := slices.Collect(slices.Chunk(windows, t.economy.Windows))
		sums, counts := make([]float64, len(batches)), make([]float64, len(batches))
		for i := t.team.Rank(); i < len(batches); i += t.team.Size() {
			b, targets := t.objective.Batch(batches[i])
			counts[i] = float64(counted(targets))
			sums[i] = t.Evaluate(b, targets) * counts[i]
		}
		if t.Divides() && len(batches)%t.team.Size() > 0 && t.team.Rank() >= len(batches)%t.team.Size() { // others need this one's part
			b, targets := t.objective.Batch(batches[0])
			t.Evaluate(b, targets)
		}
		if err := t.Err(); err != nil {
			return err
		}
		if err := t.team.Sum(sums); err != nil {
			return err
		}
		if err := t.team.Sum(counts); err != nil {
			return err
		}
		sum, all := 0.0, 0.0
		for i := range sums {
			sum, all = sum+sums[i], all+counts[i]
		}
		loss = sum / max(all, 1)
		return nil
	})
	return loss, err
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
