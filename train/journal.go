package train

import (
	"errors"
	"os"
	"path/filepath"
)

// journal is where a run's figures go: metrics.jsonl and TensorBoard's event file.
type journal struct {
	metrics *os.File
	events  *events
}

// openJournal continues a run's figures after a step.
func openJournal(dir string, step int) (*journal, error) {
	path := filepath.Join(dir, metricsFile)
	if err := cutMetrics(path, step); err != nil {
		return nil, err
	}
	metrics, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	e, err := openEvents(dir, step)
	if err != nil {
		return nil, errors.Join(err, metrics.Close())
	}
	return &journal{metrics, e}, nil
}

func (j *journal) log(m Metrics) error {
	line, err := m.line()
	if err != nil {
		return err
	}
	if _, err := j.metrics.Write(line); err != nil {
		return err
	}
	values := []scalar{
		{"train/loss", m.Loss},
		{"train/grad_norm", m.GradNorm},
		{"train/lr", m.LR},
		{"train/tokens_per_s", m.TokensPerS},
	}
	if m.KL != nil {
		values = append(values, scalar{"train/ce", *m.CE}, scalar{"train/kl", *m.KL})
	}
	if m.ValidLoss != nil {
		values = append(values, scalar{"valid/loss", *m.ValidLoss})
	}
	return j.events.scalars(m.Step, values...)
}

func (j *journal) Close() error { return errors.Join(j.metrics.Close(), j.events.Close()) }
