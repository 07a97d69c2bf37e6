// Package sweep is the whole road in one call: convert a model to each number of groups, up-train each conversion, evaluate
// everything, and write the trade-off's report. Its parts meet on disk only, in one folder:
//
//	sweep.json        what was asked for; the same again goes on where it stopped
//	models/GROUPS-METHOD/          the conversions, before up-training
//	runs/GROUPS-CURVE/             the up-trainings; model/ in each is the result
//	teacher/                       the original's predictions, for all up-trainings that follow them; gone at the end
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
	"gqa/internal/data"
	"gqa/internal/file"
	"gqa/train"
)

// Options say what to sweep over and how to measure. They are kept in sweep.json.
type Options struct {
	Model  string        `json:"model"` // folder or file; empty: the embedded sample, extracted into the sweep's folder
	Data   string        `json:"data"`  // corpus to up-train on
	Valid  string        `json:"valid"` // corpus to evaluate on
	Groups []int         `json:"groups"`
	Curves []Curve       `json:"methods"`
	Seed   uint64        `json:"seed"`
	Recipe recipe.Recipe `json:"recipe"` // of every up-training, resolved; Steps 0: none

	Calibration       string `json:"calibration"` // text that conversions look at; empty: they look at weights alone
	CalibrationTokens int    `json:"calibration_tokens"`

	EvalWindows    int   `json:"eval_windows"`    // of Recipe.SeqLen tokens; 0: all
	Batch          int   `json:"batch"`           // of the latency
	Context        int   `json:"context"`         // tokens in the cache of the timed decode
	OriginalTokens int64 `json:"original_tokens"` // that the model was pre-trained on; 0: estimated

	Notes []string `json:"-"` // to be told once it is known that the sweep can begin
}

// Watcher hears how a sweep goes. Its functions may be nil.
type Watcher struct {
	// Point hears that the work on a point begins. left is the time that this point and the rest will take, as soon as ok.
	Point func(number, of int, left func() (d time.Duration, ok bool))
	Stage func(name string, steps int) // a piece of the work begins; steps 0: nothing tells how far it has come
	Step  func()                       // of the piece
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

// ReportFolder is where a sweep without a folder goes.
const ReportFolder = "sweep"

// Run makes the sweep in dir. A folder that holds a sweep with the same options is completed: what is there is not made again,
// except measurements. With force, whatever sweep the folder holds is replaced. Nothing is written before the options, the
// model and the corpora have been found to fit together. An up-training that diverges costs the report its point: it is
// written and returned all the same, with a DivergedError.
func Run(ctx context.Context, dir string, o Options, force bool, w Watcher) (report.Report, error) {
	s := &sweep{dir: dir, o: o, watch: w}
	err := s.run(ctx, force)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.report.Write(dir)
	}
	if err == nil {
		err = checkpoints.RemoveOwned(s.teacher(), train.RecognizePredictions)
	}
	if err != nil {
		return report.Report{}, err
	}
	return s.report, s.divergence()
}

// divergence is the error about the points that the report goes without, if any.
func (s *sweep) divergence() error {
	if len(s.diverged) == 0 {
		return nil
	}
	return DivergedError{Dir: s.dir, Points: s.diverged, LR: s.o.Recipe.Optimizer.LR / 4}
}

// DivergedError reports up-trainings that diverged. It wraps train.ErrDiverged.
type DivergedError struct {
	Dir    string // of the report, which goes without their points
	Points []string
	LR     float64 // a lower learning rate to try
}

// Error names the report and the points.
func (e DivergedError) Error() string {
	return fmt.Sprintf("%v: the report in %s goes without %s up-trained", train.ErrDiverged, e.Dir, strings.Join(e.Points, ", "))
}

// Unwrap returns train.ErrDiverged.
func (e DivergedError) Unwrap() error { return train.ErrDiverged }

type sweep struct {
	dir    string
	o      Options
	asked  []byte              // sweep.json
	known  bool                // the folder holds this very sweep, to be gone on with
	anew   *checkpoints.Output // takes the place of the sweep in the folder; nil: there is none, or it is gone on with
	watch  Watcher
	model  string // folder or file of the multi-head model
	heads  int    // its KV heads
	valid  *data.Dataset
	report report.Report

	text      *calibrate.Data // what conversions look at; nil: weights alone
	diverged  []string        // points whose up-training did
	forecast  *forecast
	number    int // of the point under way
	of        int
	latencies map[int]*eval.Latency // by groups: neither method nor weights change what a step computes
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

// teacherFolder is where the original's predictions are kept while the sweep is under way.
const teacherFolder = "teacher"

func (s *sweep) teacher() string { return filepath.Join(s.dir, teacherFolder) }

// look finds out whether the folder can be used.
func (s *sweep) look(force bool) (err error) {
	if s.asked, err = json.MarshalIndent(s.o, "", "  "); err != nil {
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

// open makes the folder, in place of the sweep in it, or goes on with that.
func (s *sweep) open() error {
	if s.known {
		slog.Info("going on with a sweep", "dir", s.dir)
	} else if err := s.begin(); err != nil {
		return err
	}
	if s.model = s.o.Model; s.model != "" {
		return nil
	}
	s.model = filepath.Join(s.dir, "models", sample.Name)
	return sample.Extract(s.model)
}

// begin makes the folder with what was asked for in it.
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

// SampleTokens is how many tokens the embedded sample was pre-trained on; 0 if its reference does not say.
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
