package train

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
)

// badStep is why a step was not made: its weights, and the optimizer's state, are those of the step before.
type badStep struct{ why string }

func (e *badStep) Error() string { return e.why }

// Numbers of steps that a spike is compared with: the latest, if there are enough of them.
const (
	spikeWindow = 128
	spikeLeast  = 20
)

// watch knows which steps of a run were skipped, and what the last others were like. It is part of a run's state, restored from its
// metrics.
type watch struct {
	skipped       int
	losses, norms []float64 // of the last steps that were made, at most spikeWindow
}

// watchOf returns the state after steps.
func watchOf(steps []Metrics) (w watch) {
	for _, m := range steps {
		w.add(m)
	}
	return w
}

// add notes a step.
func (w *watch) add(m Metrics) {
	if m.Skipped != "" {
		w.skipped++
		return
	}
	w.losses = append(w.losses[max(0, len(w.losses)-spikeWindow+1):], float64(m.Loss))
	w.norms = append(w.norms[max(0, len(w.norms)-spikeWindow+1):], float64(m.GradNorm))
}

// spike says why x, of the given kind, is too far above the last ones; "" if it is not.
func spike(kind string, x float64, last []float64, limit float64) string {
	if limit == 0 || len(last) < spikeLeast {
		return ""
	}
	mean, squares := 0.0, 0.0
	for _, v := range last {
		mean += v / float64(len(last))
	}
	for _, v := range last {
		squares += (v - mean) * (v - mean) / float64(len(last))
	}
	deviation := max(math.Sqrt(squares), 1e-3*math.Abs(mean)) // losses that are nearly equal say nothing about the next
	if x <= mean+limit*deviation {
		return ""
	}
	return fmt.Sprintf("the %s is %.4g, %.3g standard deviations above %.4g, the mean of the last %d steps", kind, x, (x-mean)/deviation, mean, len(last))
}

// skip notes a step that was not made, unless there have been too many of them. done is false if the run is to stop for err. All
// processes do the same, since they have the same err.
func (r *run) skip(step int, err error) (why string, done bool) {
	var bad *badStep
	if !errors.As(err, &bad) || r.trainer.Err() != nil || r.trainer.watch.skipped >= r.recipe.Skip.Limit {
		return "", false
	}
	slog.Warn(fmt.Sprintf("step %d is skipped: %s", step, bad.why), "skipped", r.trainer.watch.skipped+1, "limit", r.recipe.Skip.Limit)
	return bad.why, true
}
