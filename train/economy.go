package train

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"gqa/configs/recipe"
	"gqa/internal/device"
	"gqa/internal/engine"
	"gqa/internal/ops"
)

// economy is how a run saves memory. It is part of a run's state, because it decides in which order numbers are added.
type economy struct {
	Recompute string `json:"recompute,omitempty"` // what the backward pass computes again, as in the recipe
	Windows   int    `json:"windows,omitempty"`   // number of windows computed at once, at most the recipe's batch
}

// recomputes are the values of the recipe's recompute, from the least to the most, with what they mean for a model.
var recomputes = []struct {
	name string
	what ops.Recompute
	says string
}{
	{"none", ops.RecomputeNone, ""},
	{"attention", ops.RecomputeAttention, "attention is computed again in the backward pass"},
	{"layer", ops.RecomputeLayer, "layers are computed again in the backward pass"},
}

// engineEconomy returns the economy in the engine's terms.
func (t *trainer) engineEconomy() engine.Economy {
	how := engine.Economy{MicroBatches: t.rounds()}
	for _, c := range recomputes {
		if c.name == t.economy.Recompute {
			how.Recompute = c.what
		}
	}
	return how
}

// less returns the next economy to try, and what it does. ok is false if there is none.
func (e economy) less(r *recipe.Recipe) (next economy, says string, ok bool) {
	next = e
	if r.Recompute == "" { // it is chosen here
		for i, c := range recomputes[:len(recomputes)-1] {
			if c.name == cmp.Or(e.Recompute, "none") {
				next.Recompute = recomputes[i+1].name
				return next, recomputes[i+1].says, true
			}
		}
	}
	if e.Windows == 1 {
		return e, "", false
	}
	next.Windows = (e.Windows + 1) / 2
	return next, fmt.Sprintf("the batch of %d windows is computed %d at a time", r.Batch, next.Windows), true
}

// frugally calls f until there is enough memory for it, or until it cannot do with less.
func (t *trainer) frugally(f func() error) error {
	for {
		if err := f(); err == nil || !t.economise(err) {
			return err
		}
	}
}

// economise prepares another attempt at what there was not enough memory. It reports whether err is such a failure
// and there is a way to need less. If there is none, the device can still be used, with the weights of the step before.
func (t *trainer) economise(err error) bool {
	if !errors.As(err, new(*device.MemoryError)) || !t.team.alone() || !t.recover() { // others would wait for this process
		return false
	}
	next, says, ok := t.economy.less(t.recipe)
	if !ok {
		return false
	}
	slog.Warn(fmt.Sprintf("%v: %s", err, says))
	t.setEconomy(next)
	return true
}

// recover makes a device usable again after a lack of memory, without what has been computed of a step.
func (t *trainer) recover() bool {
	d, ok := t.device.(device.Recoverer)
	if !ok {
		return false
	}
	t.Abandon()
	t.ahead = nil
	t.teacher.release()
	return d.Recover()
}

// needsLess says what takes less memory than the economy that was tried.
func (t *trainer) needsLess() string {
	var ways []string
	if t.economy.Recompute != recomputes[len(recomputes)-1].name {
		ways = append(ways, "recompute=layer")
	}
	if t.device.Activations() == device.F32 {
		ways = append(ways, "precision=bf16")
	}
	if t.economy.Windows > 1 {
		ways = append(ways, "in a new run a smaller batch and a larger accumulate")
	} else {
		ways = append(ways, "in a new run a smaller seq_len")
	}
	return strings.Join(ways, " or ")
}

func (t *trainer) setEconomy(e economy) {
	t.economy = e
	t.Economise(t.engineEconomy())
}

// chosenEconomy returns the economy if it is not that of the recipe.
func (t *trainer) chosenEconomy() *economy {
	if t.economy == (economy{Recompute: t.recipe.Recompute, Windows: t.recipe.Batch}) {
		return nil
	}
	e := t.economy
	return &e
}

// adopt continues with the economy of a checkpoint.
func (e *economy) adopt(t *trainer) {
	if e == nil || e.Windows < 1 || e.Windows > t.recipe.Batch {
		return
	}
	next := *e
	next.Recompute = cmp.Or(t.recipe.Recompute, e.Recompute)
	t.setEconomy(next)
}
