package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// State is the state of a run.
type State string

// The states.
const (
	Running     State = "running"     // a process is training it
	Interrupted State = "interrupted" // it was stopped or failed; resume continues it
	Finished    State = "finished"    // all steps are done and model/ exists
)

// Status describes the progress of a run.
type Status struct {
	Run        string            `json:"run"` // its folder
	State      State             `json:"state"`
	Step       int               `json:"step"`              // the last that was made or saved
	Steps      int               `json:"steps"`             // total
	Saved      int               `json:"saved_step"`        // of the newest checkpoint; 0 if there is none
	Tokens     int64             `json:"tokens"`            // read so far
	Skipped    int               `json:"skipped,omitempty"` // number of steps that were not made
	Loss       *float64          `json:"loss,omitempty"`    // of the last step that was made, nats per token
	CE         *float64          `json:"ce,omitempty"`      // its cross-entropy, with a teacher: see Metrics
	KL         *float64          `json:"kl,omitempty"`
	ValidLoss  *float64          `json:"valid_loss,omitempty"`         // the last one measured
	Original   *float64          `json:"valid_loss_teacher,omitempty"` // the teacher's
	Tasks      map[string]Figure `json:"tasks,omitempty"`              // the last that were measured
	Best       int               `json:"best_step,omitempty"`          // of the best validation, as the recipe's best says
	TokensPerS float64           `json:"tokens_per_s"`                 // over the last steps, excluding validations and checkpoints
	ETA        *float64          `json:"eta_s,omitempty"`              // seconds to the last step, while running
	Model      string            `json:"model,omitempty"`              // the result, once finished

	Idle bool `json:"-"` // set by [Resume] if the run was finished and nothing was done
}

// IsRun reports whether a folder is a run's.
func IsRun(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, recipeFile))
	return err == nil
}

// ReadStatus returns the status of the run in a folder. It changes nothing there.
func ReadStatus(dir string) (*Status, error) {
	running, err := isLocked(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	return readStatus(dir, running)
}

func readStatus(dir string, running bool) (*Status, error) {
	recipe, err := readRecipe(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: is not a run: it has no %s", dir, recipeFile)
	}
	if err != nil {
		return nil, err
	}
	metrics, _, err := readMetrics(filepath.Join(dir, metricsFile))
	if err != nil {
		return nil, err
	}
	metrics = slices.DeleteFunc(metrics, func(m Metrics) bool { return m.Step > recipe.Steps }) // damaged
	saved, err := newestWhole(dir)
	if err != nil {
		return nil, err
	}
	s := &Status{Run: dir, State: Interrupted, Steps: recipe.Steps, Saved: saved}
	s.follow(metrics)
	s.Step = max(s.Step, s.Saved)
	s.Tokens = int64(s.Step) * int64(recipe.TokensPerStep())
	model := filepath.Join(dir, modelDir)
	switch left := int64(s.Steps)*int64(recipe.TokensPerStep()) - s.Tokens; {
	case running:
		s.State = Running
		if s.TokensPerS > 0 {
			eta := float64(left) / s.TokensPerS
			s.ETA = &eta
		}
	case s.Saved == s.Steps && hasResult(dir, s.Steps):
		s.State, s.Model = Finished, model
	}
	return s, nil
}

// follow takes the newest metrics.
func (s *Status) follow(metrics []Metrics) {
	for i, m := range metrics {
		if s.Step = m.Step; m.Skipped != "" {
			s.Skipped++
		} else {
			s.Loss, s.CE, s.KL = (*float64)(&metrics[i].Loss), m.CE, m.KL
		}
		if m.Tasks != nil {
			s.Tasks = m.Tasks
		}
		if m.Best {
			s.Best = m.Step
		}
		if m.ValidLoss != nil {
			s.ValidLoss, s.Original = m.ValidLoss, m.Original
		}
	}
	s.TokensPerS = speed(metrics[max(0, len(metrics)-speedSteps):])
}

// speedSteps is the number of recent steps over which a run's speed is averaged, as a single step is too noisy.
const speedSteps = 20

// speed returns the tokens per second over steps, all of which read the same number of tokens.
func speed(steps []Metrics) float64 {
	if len(steps) == 0 {
		return 0
	}
	seconds := 0.0 // per token, summed over the steps
	for _, m := range steps {
		seconds += 1 / m.TokensPerS
	}
	return float64(len(steps)) / seconds
}
