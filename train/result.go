package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/checkpoints"
)

// resultFile lies beside the recipe and records what the run wrote into model/.
const resultFile = "result.json"

// result records what a finished run has written. It is a sealed file. It is written before model/ gets its name, so its
// existence alone does not mean that there is a result.
type result struct {
	Step  int                           `json:"step"`
	Files map[string]checkpoints.Digest `json:"files"` // of model/
}

// readResult reads the result file. It returns nil if there is none or if an earlier version wrote it.
func readResult(run string) (*result, error) {
	var held result
	err := readSealed(filepath.Join(run, resultFile), &held)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && held.Files == nil {
		err = errors.New(resultFile + " does not list the files of the result")
	}
	return &held, err
}

// hasResult reports whether the model of the last step exists: all files that were written, and the weights with their
// recorded sizes. Other files may have been edited since.
func hasResult(run string, step int) bool {
	model := filepath.Join(run, modelDir)
	held, err := readResult(run)
	switch {
	case err != nil:
		return false
	case held == nil:
		return earlierVersion(run) && isFilled(filepath.Join(model, "config.json")) && hasWeights(model)
	}
	for name, digest := range held.Files {
		path := filepath.Join(model, filepath.FromSlash(name))
		info, err := os.Stat(path)
		if err != nil || digest.Bytes > 0 && !isFilled(path) || filepath.Ext(name) == ".safetensors" && info.Size() != digest.Bytes {
			return false
		}
	}
	return held.Step == step
}

// isFilled reports whether a path leads to a non-empty file.
func isFilled(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// hasWeights reports whether a folder has a safetensors file.
func hasWeights(dir string) bool {
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return filepath.Ext(e.Name()) == ".safetensors" })
}

// earlierVersion reports whether the run was started by a version that did not record which files are the run's.
func earlierVersion(run string) bool {
	began, damage := readIdentity(run)
	return damage == nil && began.Run == ""
}

// compare compares the files in dir with a result: same lists those that are unchanged, changed the others.
func (r *result) compare(dir string) (same, changed []string) {
	for name, digest := range r.Files {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err == nil && info.Mode().IsRegular() && checkpoints.Verify(context.Background(), dir, map[string]checkpoints.Digest{name: digest}) == nil:
			same = append(same, name)
		default:
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return same, changed
}

// removeResult makes room for a new result. A user's additional files stay in model/. If the old result was changed, or
// if it is unknown what was written, the whole model/ is put aside.
func removeResult(run string) error {
	model := filepath.Join(run, modelDir)
	owned, why := ownResult(run, model)
	if why == "" {
		own := func(string) (checkpoints.Owned, error) { return owned, nil }
		if err := checkpoints.RemoveOwned(model, own); err != nil {
			return err
		}
	} else {
		aside, err := putAside(model)
		if err != nil {
			return err
		}
		slog.Warn(fmt.Sprintf("%s: %s; renamed to %s, and the run will write a new one", model, why, aside))
	}
	if err := os.Remove(filepath.Join(run, resultFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ownResult returns what the run wrote into model/. A non-empty why says why it must not be removed.
func ownResult(run, model string) (owned checkpoints.Owned, why string) {
	info, err := os.Lstat(model)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return owned, ""
	case err != nil || !info.IsDir():
		return owned, "is not a folder"
	}
	held, err := readResult(run)
	switch {
	case err == nil && held != nil:
		same, changed := held.compare(model)
		if changed != nil {
			return owned, strings.Join(changed, ", ") + " changed since the run wrote it"
		}
		return held.owned(same), ""
	case err == nil && earlierVersion(run):
		if owned, err = recognizeModel(model); err != nil {
			return owned, err.Error()
		}
	case hasWeights(model):
		return owned, resultFile + ", which lists what the run wrote, is missing or damaged"
	}
	return owned, ""
}

// owned returns the files of the result by name.
func (r *result) owned(names []string) checkpoints.Owned {
	owned := checkpoints.Owned{Files: map[string]int64{}}
	for _, name := range names {
		owned.Files[name] = r.Files[name].Bytes
	}
	return owned
}

// writeResult records what dir, which becomes model/, holds.
func writeResult(run string, step int, dir string) error {
	files, err := checkpoints.Digests(context.Background(), dir, nil)
	if err != nil {
		return err
	}
	text, err := seal(result{step, files})
	if err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(filepath.Join(run, resultFile), text, 0o666)
}
