package train

import (
	"fmt"
	"path/filepath"

	"gqa/internal/weights"
)

// ReadRecord returns what a finished run says about the files of its result. run is its folder.
func ReadRecord(run string) (*weights.Record, error) {
	held, err := readResult(run)
	switch {
	case err != nil:
		return nil, err
	case held != nil:
		return &weights.Record{Path: filepath.Join(run, resultFile), Dir: filepath.Join(run, modelDir), Files: held.Files}, nil
	case !hasWeights(filepath.Join(run, modelDir)):
		return nil, weights.UnfinishedError{Run: run}
	}
	return nil, fmt.Errorf("%s: has no %s, as a run of an earlier version: its result cannot be verified", run, resultFile)
}

// RunOf returns the folder of the run whose result is in dir; empty if dir is not that of a run's result.
func RunOf(dir string) string {
	if filepath.Base(dir) != modelDir {
		abs, err := filepath.Abs(dir) // dir may be a dot
		if err != nil {
			return ""
		}
		dir = abs
	}
	if run := filepath.Dir(filepath.Clean(dir)); filepath.Base(dir) == modelDir && IsRun(run) {
		return run
	}
	return ""
}
