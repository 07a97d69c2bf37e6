package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gqa/checkpoints/sample"
	"gqa/convert"
	"gqa/convert/calibrate"
	"gqa/internal/data"
	"gqa/internal/file"
)

// loadCalibration reads the text to run the model on; nil if there is none, or if nothing needs it.
func (f flags) loadCalibration(cmd *cobra.Command, src *convert.Source) (*calibrate.Data, error) {
	name := f.calibration
	if wanted := f.refine > 0 || f.method == string(convert.Calibrated) || f.toLatent(); name == "" && wanted && isSample(src.Dir) {
		name = data.SamplePrefix + "train"
	}
	if name == "" {
		return nil, nil
	}
	d, err := calibrate.Load(cmd.Context(), name, src.Dir, src.Arch, calibrate.Options{
		Tokens: f.calibrationTokens, Steps: f.refine, Seed: f.seed, TextKey: f.textKey,
	})
	if err != nil {
		return nil, fmt.Errorf("--calibration: %w", err)
	}
	return d, nil
}

// isSample reports whether the folder holds the embedded sample model, whose corpus is also embedded.
func isSample(dir string) bool {
	const weights = "model.safetensors"
	want, err := sample.File(weights)
	if err != nil {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, weights))
	if err != nil || info.Size() != int64(len(want)) {
		return false
	}
	got, err := file.Read(filepath.Join(dir, weights))
	return err == nil && bytes.Equal(got, want)
}
