package train

import (
	"fmt"
	"log/slog"

	"gqa/internal/device"
	"gqa/internal/estimate"
	"gqa/internal/limits"
	"gqa/internal/units"
)

// estimate returns how much memory training takes with an economy, in each process.
func (r *run) estimate(e economy) (estimate.Memory, error) {
	share, n := *r.recipe, r.team.Size()
	if n > 1 { // each has its part of a step's windows
		share.Batch, share.Accumulate = (share.Batch*share.Accumulate+n-1)/n, 1
	}
	s := r.team.setting(r.origin.dtype)
	s.Sharding, s.Recompute, s.Windows = estimate.Sharding(r.team.divides(r.recipe)), e.Recompute, min(e.Windows, share.Batch)
	return estimate.Of(r.origin.arch, &share, s)
}

// fit says how much memory a run takes and, on a device with memory of its own, chooses an economy with which a step is expected to fit.
// If it does not after all, the step finds out. Several processes choose what fits where the least is free.
func (r *run) fit() error {
	roomy, own := r.trainer.device.(device.Roomy)
	room := limits.Free()
	if own {
		room = float64(roomy.Room())
	}
	room, err := r.team.least(room)
	if err != nil {
		return err
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
