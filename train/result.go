package train

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"gqa/checkpoints"
)

// resultFile is beside the recipe: what the run wrote into model/.
const resultFile = "result.json"

// result is what a finished run has written. It is a sealed file. It is written before model/ has its name: it alone does not say
// that there is a result.
type result struct {
	Step  int                           `json:"step"`
	Files map[string]checkpoints.Digest `json:"files"` // of model/
}

// readResult is nil where a run has none, or an earlier version wrote it.
func readResult(run string) (*result, error) {
	var held result
	err := readSealed(filepath.Join(run, resultFile), &held)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && held.Files == nil {
		err = errors.New(resultFile + " does not say what the run wrote")
	}
	return &held, err
}

// hasResult tells whether the model that a step ended with is there: the files that were written, and the weights as long as they
// were. Other files may have been edited since.
func hasResult(run string, step int) bool {
	model := filepath.Join(run, modelDir)
	held, err := readResult(run)
	switch {
	case err != nil:
		return false
	case held == nil:
		_, err := os.Stat(filepath.Join(model, "config.json"))
		return err == nil && hasWeights(model)
	}
	for name, digest := range held.Files {
		info, err := os.Stat(filepath.Join(model, filepath.FromSlash(name)))
		if err != nil || filepath.Ext(name) == ".safetensors" && info.Size() != digest.Bytes {
			return false
		}
	}
	return held.Step == step
}

// hasWeights tells whether a folder has a safetensors file.
func hasWeights(dir string) bool {
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return filepath.Ext(e.Name()) == ".safetensors" })
}

// removeResult removes the result of fewer steps, but not what a user put beside it.
func removeResult(run string) error {
	if err := checkpoints.RemoveOwned(filepath.Join(run, modelDir), recognizeResult); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(run, resultFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeResult writes down what dir, which becomes model/, holds.
func writeResult(run string, step int, dir string) error {
	files, err := checkpoints.Digests(context.Background(), dir)
	if err != nil {
		return err
	}
	text, err := seal(result{step, files})
	if err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(filepath.Join(run, resultFile), text, 0o666)
}
