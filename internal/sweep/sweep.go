// Package sweep runs the whole pipeline in one call: it converts a model to each number of groups, up-trains each
// conversion, evaluates everything, and writes the trade-off's report. The stages exchange data only through files in one
// folder:
//
//	sweep.json                     the options; a sweep with the same options resumes where it stopped
//	models/GROUPS-METHOD/          the conversions, before up-training
//	runs/GROUPS-CURVE/             the up-trainings; model/ in each is the result
//	teacher/                       the original's predictions, for all up-trainings that follow them; removed at the end
//	report.json, report.html, …    the report
package sweep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/configs/recipe"
	"gqa/convert/calibrate"
	"gqa/eval"
	"gqa/eval/report"
	"gqa/eval/tasks"
	"gqa/internal/data"
	"gqa/internal/file"
	"gqa/train"
)

// Options determine the points of a sweep and how they are measured. They are stored in sweep.json.
type Options struct {
	Model  string        `json:"model"` // folder or file; empty means the embedded sample, extracted into the sweep's folder
	Data   string        `json:"data"`  // corpus to up-train on
	Valid  string        `json:"valid"` // corpus to evaluate on
	Groups []int         `json:"groups"`
	Curves []Curve       `json:"methods"`
	Seed   uint64        `json:"seed"`
	Recipe recipe.Recipe `json:"recipe"` // of every up-training, resolved; Steps is 0 for none

	Calibration       string `json:"calibration"` // text that conversions use; empty if they use weights only
	CalibrationTokens int    `json:"calibration_tokens"`

	EvalWindows    int             `json:"eval_windows"` // of Recipe.SeqLen tokens, spread over the corpus; 0 means all
	Batch          int             `json:"batch"`        // of the latency
	Context        int             `json:"context"`      // tokens in the cache of the timed decode
	Tasks          tasks.Selection `json:"tasks"`
	OriginalTokens int64           `json:"original_tokens"` // number of tokens that the model was pre-trained on; 0 if estimated

	About  About       `json:"-"`
	Timing eval.Timing `json:"-"` // of the latency
	Notes  []string    `json:"-"` // logged once it is known that the sweep can start
}

// Watcher observes a sweep. Its functions may be nil.
type Watcher struct {
	// Point is called when the work on a point begins. left returns the estimated time for this point and the remaining
	// ones, and whether there is an estimate yet.
	Point func(number, of int, left func() (d time.Duration, ok bool))
	Stage func(name string, steps int) // a stage of the work begins; steps is 0 if its progress is unknown
	Step  func()                       // of the stage
}

func (w Watcher) stage(name string, steps int) {
	if w.Stage != nil {
		w.Stage(name, steps)
	}
}

func (w Watcher) steps(n int64) {
	for range n {
		if w.Step != nil {
			w.Step()
		}
	}
}

// ReportFolder is the default folder of a sweep.
const ReportFolder = "sweep"

// Run makes the sweep in dir. If the folder holds a sweep with the same options, Run completes it: existing parts are not
// made again, except measurements. With force, any sweep in the folder is replaced. Nothing is written before Run has
// checked that the options, the model and the corpora fit together. If an up-training diverges, its point is omitted: the
// report is still written and returned, with a DivergedError.
func Run(ctx context.Context, dir string, o Options, force bool, w Watcher) (report.Report, error) {
	s := &sweep{dir: dir, o: o, watch: w}
	err := s.run(ctx, force)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.compared.write(s.report, dir)
	}
	if err == nil {
		err = checkpoints.RemoveOwned(s.teacher(), train.RecognizePredictions)
	}
	if err != nil {
		return report.Report{}, err
	}
	return s.report, s.divergence()
}

// divergence returns the error about the points that the report omits, if there are any.
func (s *sweep) divergence() error {
	if len(s.diverged) == 0 {
		return nil
	}
	return DivergedError{Dir: s.dir, Points: s.diverged, LR: s.o.Recipe.Optimizer.LR / 4}
}

// DivergedError reports up-trainings that diverged. It wraps train.ErrDiverged.
type DivergedError struct {
	Dir    string // of the report, which omits their points
	Points []string
	LR     float64 // a lower learning rate to try
}

// Error names the report and the points.
func (e DivergedError) Error() string {
	return fmt.Sprintf("%v: the report in %s omits the up-trained %s", train.ErrDiverged, e.Dir, strings.Join(e.Points, ", "))
}

// Unwrap returns train.ErrDiverged.
func (e DivergedError) Unwrap() error { return train.ErrDiverged }

type sweep struct {
	dir    string
	o      Options
	asked  []byte              // sweep.json
	known  bool                // the folder holds this sweep, which is resumed
	anew   *checkpoints.Output // replaces the sweep in the folder; nil if there is none, or if it is resumed
	watch  Watcher
	model  string // folder or file of the multi-head model
	heads  int    // its KV heads
	valid  *data.Dataset
	tasks  []*tasks.Task
	report report.Report

	text     *calibrate.Data // text that conversions use; nil if they use weights only
	diverged []string        // points whose up-training diverged
	forecast *forecast
	number   int // of the current point
	of       int
	compared comparison
	untimed  []untimed
}

func (s *sweep) run(ctx context.Context, force bool) error {
	if err := s.look(force); err != nil {
		return err
	}
	if s.anew != nil {
		defer s.anew.Abort()
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	recipe := s.o.Recipe
	if recipe.Data, recipe.Valid = s.o.Data, s.o.Valid; recipe.Steps > 0 {
		s.o.Notes = append(s.o.Notes, train.Doubts(recipe)...)
	}
	for _, note := range s.o.Notes {
		slog.Warn(note)
	}
	if err := s.open(); err != nil {
		return err
	}
	return s.measureAll(ctx)
}

// teacherFolder holds the original's predictions during the sweep.
const teacherFolder = "teacher"

func (s *sweep) teacher() string { return filepath.Join(s.dir, teacherFolder) }

// look checks whether the folder can be used.
func (s *sweep) look(force bool) (err error) {
	asked := s.o
	asked.Recipe.Device = "" // a sweep can be resumed on another device
	if s.asked, err = json.MarshalIndent(asked, "", "  "); err != nil {
		return err
	}
	if err := checkpoints.RemoveLeftovers(s.dir, recognize); err != nil {
		return err
	}
	have, err := file.Read(filepath.Join(s.dir, sweepFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return emptyOrMissing(s.dir)
	case err != nil:
		return err
	case force:
		if s.o.Model != "" && checkpoints.Within(s.o.Model, s.dir) {
			return checkpoints.FolderError{Dir: s.dir, Err: fmt.Errorf("is not replaced: the model of the new sweep, %s, is in it", s.o.Model)}
		}
		s.anew, err = checkpoints.NewOutput(s.dir, true, recognize)
		return err
	}
	if s.known = bytes.Equal(have, s.asked); !s.known {
		return checkpoints.FolderError{Dir: s.dir, Err: errors.New("holds a sweep with other options"), Replaceable: true}
	}
	return nil
}

func emptyOrMissing(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return checkpoints.FolderError{Dir: dir, Err: errors.New("is not empty and holds no sweep")}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// open creates the folder, replacing the sweep in it, or resumes that sweep.
func (s *sweep) open() error {
	if s.known {
		slog.Info("resuming a sweep", "dir", s.dir)
	} else if err := s.begin(); err != nil {
		return err
	}
	if s.model = s.o.Model; s.model != "" {
		return nil
	}
	s.model = filepath.Join(s.dir, "models", sample.Name)
	return sample.Extract(s.model)
}

// begin creates the folder with the options in it.
func (s *sweep) begin() error {
	if s.anew != nil {
		if err := os.WriteFile(filepath.Join(s.anew.Dir(), sweepFile), s.asked, 0o666); err != nil {
			return err
		}
		return s.anew.Commit()
	}
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(filepath.Join(s.dir, sweepFile), s.asked, 0o666)
}

// SampleTokens returns the number of tokens that the embedded sample was pre-trained on; 0 if its reference does not
// contain it.
func SampleTokens() int64 {
	data, err := sample.File("reference.json")
	if err != nil {
		return 0
	}
	var reference struct {
		Tokens int64 `json:"tokens"`
	}
	if err := json.Unmarshal(data, &reference); err != nil {
		return 0
	}
	return reference.Tokens
}
