package train

import (
	"fmt"
	"log/slog"

	"gqa/checkpoints"
	"gqa/internal/device"
	"gqa/internal/estimate"
	"gqa/internal/limits"
	"gqa/internal/units"
)

// estimate returns how much memory training takes with an economy.
func (r *run) estimate(e economy) (estimate.Memory, error) {
	_, own := r.trainer.device.(device.Namer)
	return estimate.Of(r.origin.arch, r.recipe, estimate.Setting{
		Recompute: e.Recompute, Windows: e.Windows, BF16: r.trainer.device.Activations() == device.BF16, OwnMemory: own,
		Exact: r.origin.dtype == checkpoints.BF16, Logits: r.trainer.device.LogitsAtOnce(),
	})
}

// fit says how much memory a run takes and, on a device with memory of its own, chooses an economy with which a step is expected to fit.
// If it does not after all, the step finds out.
func (r *run) fit() error {
	roomy, own := r.trainer.device.(device.Roomy)
	room := limits.Free()
	if own {
		room = float64(roomy.Room())
	}
	first, err := r.estimate(r.trainer.economy)
	if err != nil {
		return err
	}
	e, m, says := r.trainer.economy, first, ""
	for own && m.Step() > room {
		next, what, ok := e.less(r.recipe)
		if !ok {
			break
		}
		e, says = next, what
		if m, err = r.estimate(e); err != nil {
			return err
		}
	}
	size := func(x float64) string { return units.Bytes(int64(x)) }
	slog.Info("memory, as estimated", "weights", size(m.Weights), "optimizer", size(m.State), "gradients", size(m.Gradients),
		"activations", size(m.Activations), "other", size(m.Teacher+m.Work), "free", size(room))
	if e != r.trainer.economy {
		slog.Info(fmt.Sprintf("a step would take %s of the %s that are free: %s", size(first.Step()), size(room), says))
		r.trainer.setEconomy(e)
	}
	return nil
}
