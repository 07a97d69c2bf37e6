package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/internal/file"
)

// metricsFile holds one Metrics per line.
const metricsFile = "metrics.jsonl"

// Figure is a number that may not be finite, which is null in JSON.
type Figure float64

// MarshalJSON returns the number, or null.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !isFinite(float64(f)) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON reads a number, or null as NaN.
func (f *Figure) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*f = Figure(math.NaN())
		return nil
	}
	return json.Unmarshal(text, (*float64)(f))
}

// Metrics describes one step: a line of metrics.jsonl.
type Metrics struct {
	Step       int      `json:"step"`                         // from 1
	Tokens     int64    `json:"tokens"`                       // read so far
	Loss       Figure   `json:"loss"`                         // before the step, in nats per token, mean over its predictions
	CE         *float64 `json:"ce,omitempty"`                 // with a teacher, the parts of the loss: cross-entropy with the data
	KL         *float64 `json:"kl,omitempty"`                 // and KL(teacher || model), at the recipe's temperature
	GradNorm   Figure   `json:"grad_norm"`                    // before clipping
	LR         float64  `json:"lr"`                           // learning rate of the step
	TokensPerS float64  `json:"tokens_per_s"`                 // of the step itself
	Skipped    string   `json:"skipped,omitempty"`            // why the step was not made
	ValidLoss  *float64 `json:"valid_loss,omitempty"`         // cross-entropy after the step, if it was measured
	Original   *float64 `json:"valid_loss_teacher,omitempty"` // the teacher's loss on the same windows

	Tasks map[string]Figure `json:"tasks,omitempty"` // figures of tasks after the step, if they were measured
	Best  bool              `json:"best,omitempty"`  // the validation is the best so far, as the recipe's best says
}

// ReadMetrics returns the metrics of the run in dir, without damaged lines; none if there is no file yet.
func ReadMetrics(dir string) ([]Metrics, error) {
	all, _, err := readMetrics(filepath.Join(dir, metricsFile))
	return all, err
}

// readMetrics reads a run's metrics. It returns none if there is no file yet. Damaged lines are left out; a non-nil fault
// then describes the first of them, or which steps are missing.
func readMetrics(path string) (all []Metrics, fault, err error) {
	text, err := file.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	all, fault = parseMetrics(text)
	return all, fault, nil
}

func parseMetrics(text []byte) (all []Metrics, fault error) {
	note := func(format string, args ...any) {
		if fault == nil {
			fault = fmt.Errorf(format, args...)
		}
	}
	for n, last := 1, 0; len(text) > 0; n++ {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		var m Metrics
		switch {
		case !whole:
			note("line %d is cut short", n)
			continue
		case json.Unmarshal(line, &m) != nil || m.Step <= last:
			note("line %d is damaged", n)
			continue
		case m.Step > last+1:
			note("line %d is of step %d, but step %d is missing", n, m.Step, last+1)
		}
		all, last = append(all, m), m.Step
	}
	return all, fault
}

// cutMetrics truncates a run's metrics to step, the last saved one, and returns what remains. saved is the content of the
// file at that step, nil if it is unknown; then all intact lines stay. cutMetrics warns of damaged lines and rewrites the
// file only if it differs.
func cutMetrics(path string, step int, saved []byte) ([]byte, error) {
	now, err := file.Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all, fault := parseMetrics(now)
	if saved == nil {
		if saved, err = linesTo(all, step); err != nil {
			return nil, err
		}
	}
	kept, done := "", "cut back"
	if !bytes.HasPrefix(now, saved) && !validated(now, saved) {
		if fault == nil {
			fault = errors.New("it does not hold what was saved")
		}
		aside, err := putAside(path)
		switch {
		case err != nil:
			return nil, err
		case aside == "":
			fault, done = errors.New("is missing"), "written again"
		default:
			kept = ", and what was there is now " + aside
		}
	}
	if fault != nil {
		slog.Warn(fmt.Sprintf("%s: %v; it is %s to step %d%s", path, fault, done, step, kept))
	}
	if bytes.Equal(now, saved) {
		return saved, nil
	}
	return saved, checkpoints.WriteFileAtomic(path, saved, 0o666)
}

// validated reports whether now begins with saved, up to the result of a validation of the last step, which an
// interrupted run makes when it is resumed: see catchUp.
func validated(now, saved []byte) bool {
	before := bytes.LastIndexByte(bytes.TrimSuffix(saved, []byte("\n")), '\n') + 1
	rest, ok := bytes.CutPrefix(now, saved[:before])
	line, _, whole := bytes.Cut(rest, []byte("\n"))
	var m Metrics
	if !ok || !whole || json.Unmarshal(line, &m) != nil {
		return false
	}
	m.ValidLoss, m.Original, m.Tasks, m.Best = nil, nil, nil, false
	line, err := m.line()
	return err == nil && bytes.Equal(line, saved[before:])
}

// linesTo returns the lines of all steps up to the given one.
func linesTo(all []Metrics, step int) (text []byte, err error) {
	for _, m := range all {
		if m.Step > step {
			break
		}
		line, err := m.line()
		if err != nil {
			return nil, err
		}
		text = append(text, line...)
	}
	return text, nil
}

func (m Metrics) line() ([]byte, error) {
	text, err := json.Marshal(m)
	return append(text, '\n'), err
}
