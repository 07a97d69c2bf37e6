package sweep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/checkpoints"
	"gqa/checkpoints/sample"
	"gqa/convert"
	"gqa/eval/report"
	"gqa/train"
)

// sweepFile holds the options of a sweep. A sweep is recognized by it.
const sweepFile = "sweep.json"

// recognize is a [checkpoints.Recognizer] of sweeps.
func recognize(dir string) (checkpoints.Owned, error) {
	owned := checkpoints.Owned{
		Files: map[string]int64{
			sweepFile: checkpoints.AnySize, "models/": checkpoints.AnySize, "runs/": checkpoints.AnySize, teacherFolder + "/": checkpoints.AnySize,
		},
		Excludes: func(name string) bool {
			part, _, _ := strings.Cut(name, "/")
			return slices.Contains([]string{"models", "runs", teacherFolder}, part) || slices.Contains(report.Files(), name)
		},
	}
	text, err := checkpoints.ReadMark(dir, sweepFile)
	if err == nil {
		err = isSweep(text)
	}
	if err != nil {
		return owned, fmt.Errorf("it is not a sweep: %w; remove it yourself", err)
	}
	if _, err := checkpoints.ReadMark(dir, report.File); err == nil {
		if _, err := report.Read(dir); err == nil { // otherwise what is there is not ours
			for _, name := range report.Files() {
				owned.Files[name] = checkpoints.AnySize
			}
		}
	}
	for folder, kinds := range map[string][]checkpoints.Recognizer{
		"models": {convert.Recognize, sample.Recognize}, "runs": {train.Recognize},
	} {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return owned, err
		}
		for _, e := range entries {
			addPart(&owned, dir, folder+"/"+e.Name(), kinds...)
		}
	}
	addPart(&owned, dir, teacherFolder, train.RecognizePredictions)
	return owned, nil
}

// addPart adds a subfolder that is of one of the kinds. The contents of any other folder are not the sweep's.
func addPart(owned *checkpoints.Owned, dir, part string, kinds ...checkpoints.Recognizer) {
	if info, err := os.Lstat(filepath.Join(dir, part)); err != nil || !info.IsDir() {
		return
	}
	for _, kind := range kinds {
		if below, err := kind(filepath.Join(dir, part)); err == nil {
			owned.Add(part, below)
			return
		}
	}
}

// isSweep returns the reason why a sweep.json is not one of this toolkit's, or nil if it is.
func isSweep(text []byte) error {
	if !checkpoints.IsJSONOf(&Options{}, text, "model", "data", "valid", "groups", "methods", "recipe") {
		return fmt.Errorf("its %s is another program's", sweepFile)
	}
	return nil
}
