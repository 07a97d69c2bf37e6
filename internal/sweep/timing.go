package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"gqa/eval"
	"gqa/internal/device"
	"gqa/internal/limits"
)

// untimed is a model of which everything but the latency is known.
type untimed struct {
	name, path string
	same       string      // models of which this is the same are timed once: neither method nor weights affect the computation of a step
	model      *eval.Model // without its weights
	o          eval.LatencyOptions
	done       func(l *eval.Latency) error
}

// timer times models in turn, so that what slows down the machine for a while slows down all of them.
type timer struct {
	device string
	timing eval.Timing
	watch  Watcher
}

// time times the models, and passes the latency of each to its done. If they do not fit into memory together, they are timed one after
// another, and are not compared in pairs.
func (t timer) time(ctx context.Context, all []untimed) error {
	var once []untimed
	for _, u := range all {
		if !slices.ContainsFunc(once, u.sameAs) {
			once = append(once, u)
		}
	}
	t.watch.stage(fmt.Sprintf("timing %d models in turn", len(once)), 0)
	latencies, err := t.together(ctx, once)
	if tooLarge(err) && len(once) > 1 {
		slog.Warn("models are timed one after another, not in turn: they do not fit into memory together", "err", err)
		latencies, err = t.apart(ctx, once)
	}
	if err != nil {
		return err
	}
	for _, u := range all {
		if err := u.done(latencies[slices.IndexFunc(once, u.sameAs)]); err != nil {
			return err
		}
	}
	return nil
}

func (u untimed) sameAs(v untimed) bool { return u.same == v.same }

// tooLarge reports whether an error is about memory.
func tooLarge(err error) bool {
	return errors.As(err, new(limits.MemoryError)) || errors.As(err, new(*device.MemoryError))
}

// together times models in turn.
func (t timer) together(ctx context.Context, all []untimed) ([]*eval.Latency, error) {
	more := 0.0 // bytes of the weights after the first model's
	for _, u := range all[min(1, len(all)):] {
		more += 4 * float64(u.model.Parameters)
	}
	var cells []eval.Cell
	for i, u := range all {
		m, err := eval.LoadModel(ctx, u.path, eval.ModelOptions{Device: t.device})
		if err != nil {
			return nil, err
		}
		defer m.Close()
		if i == 0 {
			if err := m.CheckMemory(fmt.Sprintf("the weights of %d more models", len(all)-1), more); err != nil {
				return nil, err
			}
		}
		cells = append(cells, eval.Cell{Name: u.name, Model: m, LatencyOptions: u.o})
	}
	l, err := eval.MeasureLatencies(ctx, cells, eval.Machine{}, t.timing) // a report has no roofline
	if err != nil {
		return nil, err
	}
	for _, note := range l.Notes {
		slog.Warn("latencies are uncertain: " + note)
	}
	return l.Cells, nil
}

// apart times models one after another.
func (t timer) apart(ctx context.Context, all []untimed) (latencies []*eval.Latency, err error) {
	for _, u := range all {
		l, err := t.together(ctx, []untimed{u})
		if err != nil {
			return nil, err
		}
		l[0].DecodeRounds, l[0].PrefillRounds = nil, nil // not those of the others
		latencies = append(latencies, l[0])
	}
	return latencies, nil
}
