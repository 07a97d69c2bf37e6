package train

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gqa/checkpoints"
)

// journal records a run's metrics in metrics.jsonl and in TensorBoard's event file. Processes that do not write have nil.
type journal struct {
	metrics *os.File
	written []byte // the content of metrics.jsonl
	events  *events
}

// openJournal continues a run's metrics after a step. saved is the content of metrics.jsonl at that step; nil if it is
// unknown.
func openJournal(dir string, step int, saved []byte) (*journal, error) {
	path := filepath.Join(dir, metricsFile)
	written, err := cutMetrics(path, step, saved)
	if err != nil {
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
	return &journal{metrics, written, e}, nil
}

// last returns the metrics of the last step; ok is false if there are none.
func (j *journal) last() (m Metrics, ok bool) {
	if j == nil {
		return m, false
	}
	all, _ := parseMetrics(j.written)
	if len(all) == 0 {
		return m, false
	}
	return all[len(all)-1], true
}

// all returns the metrics of all steps: without a journal, those that a checkpoint saved.
func (j *journal) all(saved []byte) []Metrics {
	if j != nil {
		saved = j.written
	}
	all, _ := parseMetrics(saved)
	return all
}

func (j *journal) log(m Metrics) error {
	if j == nil {
		return nil
	}
	line, err := m.line()
	if err != nil {
		return err
	}
	if _, err := j.metrics.Write(line); err != nil {
		return err
	}
	j.written = append(j.written, line...)
	return j.events.scalars(m.Step, scalars(m)...)
}

// amend replaces the metrics of the last step.
func (j *journal) amend(m Metrics) error {
	if j == nil {
		return nil
	}
	line, err := m.line()
	if err != nil {
		return err
	}
	before := bytes.LastIndexByte(bytes.TrimSuffix(j.written, []byte("\n")), '\n') + 1
	j.written = append(j.written[:before:before], line...)
	path := j.metrics.Name()
	if err := checkpoints.WriteFileAtomic(path, j.written, 0o666); err != nil {
		return err
	}
	metrics, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	err = j.metrics.Close()
	j.metrics = metrics
	return errors.Join(err, j.events.scalars(m.Step, scalars(m)...))
}

// scalars returns a step's metrics by TensorBoard tag.
func scalars(m Metrics) []scalar {
	values := []scalar{
		{"train/loss", float64(m.Loss)},
		{"train/grad_norm", float64(m.GradNorm)},
		{"train/lr", m.LR},
		{"train/tokens_per_s", m.TokensPerS},
	}
	if m.Skipped != "" {
		values = append(values[2:], scalar{"train/skipped", 1})
	}
	if m.KL != nil {
		values = append(values, scalar{"train/ce", *m.CE}, scalar{"train/kl", *m.KL})
	}
	if m.ValidLoss != nil {
		values = append(values, scalar{"valid/loss", *m.ValidLoss})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Tasks)) {
		values = append(values, scalar{"tasks/" + name, float64(m.Tasks[name])})
	}
	if m.Original != nil {
		values = append(values, scalar{"valid/ce", *m.ValidLoss}, scalar{"valid/ce_teacher", *m.Original})
	}
	return values
}

// sync flushes the metrics to disk so that they survive a power failure.
func (j *journal) sync() error { return errors.Join(j.metrics.Sync(), j.events.file.Sync()) }

func (j *journal) Close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.metrics.Close(), j.events.Close())
}
