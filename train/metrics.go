package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"gqa/checkpoints"
)

// metricsFile is a Metrics per line.
const metricsFile = "metrics.jsonl"

// Metrics is one step: a line of metrics.jsonl.
type Metrics struct {
	Step       int      `json:"step"`                 // from 1
	Tokens     int64    `json:"tokens"`               // read so far
	Loss       float64  `json:"loss"`                 // before the step, nats per token, mean of its predictions
	CE         *float64 `json:"ce,omitempty"`         // with a teacher, the parts of the loss: cross-entropy with the data
	KL         *float64 `json:"kl,omitempty"`         // and KL(teacher || model), at the recipe's temperature
	GradNorm   float64  `json:"grad_norm"`            // before clipping
	LR         float64  `json:"lr"`                   // learning rate of the step
	TokensPerS float64  `json:"tokens_per_s"`         // of the step itself
	ValidLoss  *float64 `json:"valid_loss,omitempty"` // after the step, where it was measured
}

// readMetrics reads a run's metrics, none where there is no file yet. A last line that a crash cut short is left out.
func readMetrics(path string) ([]Metrics, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Metrics
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return all, nil
		}
		var m Metrics
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, n, err)
		}
		all, text = append(all, m), rest
	}
}

// cutMetrics drops what was written after a step: a crash may have come further than it saved.
func cutMetrics(path string, step int) error {
	all, err := readMetrics(path)
	if err != nil {
		return err
	}
	var kept []byte
	for _, m := range all {
		if m.Step > step {
			break
		}
		line, err := m.line()
		if err != nil {
			return err
		}
		kept = append(kept, line...)
	}
	return checkpoints.WriteFileAtomic(path, kept, 0o666)
}

func (m Metrics) line() ([]byte, error) {
	text, err := json.Marshal(m)
	return append(text, '\n'), err
}
