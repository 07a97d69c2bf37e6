package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/weights"
)

// runFile matches the files that a run writes into its folder. Event files of other programs have other names.
var runFile = regexp.MustCompile(`^(recipe\.yaml|identity\.json|result\.json|metrics\.jsonl|\.lock|damaged-metrics\.jsonl(-\d+)?|events\.out\.tfevents\.\d+\.step-\d+)$`)

// modelFile matches the files in the folder of a checkpoint or of the result, besides companions of the weights. It is
// used where earlier versions did not record which files are theirs.
var modelFile = regexp.MustCompile(`^(model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|config\.json|conversion\.json|optimizer\.safetensors|metrics\.jsonl|state\.json)$`)

// moduleFile matches the files in the folders of a sentence-transformers model.
var moduleFile = regexp.MustCompile(`\.(json|safetensors|bin)$`)

// stepFolder matches the folder of a checkpoint, including one that is being removed.
var stepFolder = regexp.MustCompile(`^(step-\d+|\.step-\d+\.old|damaged-step-\d+(-\d+)?)$`)

// Recognize is a [checkpoints.Recognizer] of runs: of folders with a recipe and the metrics of steps. No other files can
// stay in the folders of checkpoints and of the result.
func Recognize(dir string) (checkpoints.Owned, error) {
	owned := checkpoints.Owned{Files: map[string]int64{}, Excludes: func(name string) bool {
		folder, _, _ := strings.Cut(name, "/")
		return folder == checkpointsDir || folder == modelDir
	}}
	if err := isRun(dir); err != nil {
		return owned, fmt.Errorf("it is not a run: %w; remove it yourself", err)
	}
	if err := addMatching(owned, dir, "", runFile.MatchString); err != nil {
		return owned, err
	}
	owned.Files[checkpointsDir+"/"] = checkpoints.AnySize
	steps, err := os.ReadDir(filepath.Join(dir, checkpointsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return owned, err
	}
	for _, folder := range []string{modelDir, "." + modelDir + ".old"} {
		if err := addModel(owned, dir, folder, recognizeResult); err != nil {
			return owned, err
		}
	}
	for _, e := range steps {
		if !stepFolder.MatchString(e.Name()) {
			continue
		}
		if err := addModel(owned, dir, checkpointsDir+"/"+e.Name(), recognizeCheckpoint); err != nil {
			return owned, err
		}
	}
	return owned, nil
}

// outside returns an error if a run in dir would replace the model it starts from or its teacher.
func outside(dir string, r *recipe.Recipe) error {
	type used struct{ key, path string }
	paths := []used{{"model", r.Model}, {"valid", r.Valid}, {"distill.teacher", r.Distill.Teacher}, {"distill.cache", r.Distill.Cache}, {"data_cache", r.DataCache}}
	for _, path := range corpusPaths(r) {
		paths = append(paths, used{"data", path})
	}
	for _, u := range paths {
		if u.path != "" && !strings.HasPrefix(u.path, data.SamplePrefix) && checkpoints.Within(u.path, dir) {
			return checkpoints.FolderError{Dir: dir, Err: fmt.Errorf("is not replaced: %s of the new run is %s, in it", u.key, u.path)}
		}
	}
	return nil
}

// isRun returns an error that says why a folder is not a run, or nil if it is one.
func isRun(dir string) error {
	recipe, err := checkpoints.ReadMark(dir, recipeFile)
	if err != nil {
		return err
	}
	r, err := readRecipe(dir)
	if err != nil {
		return err
	}
	text, err := checkpoints.ReadMark(dir, metricsFile)
	if err != nil {
		return err
	}
	if line, _, whole := bytes.Cut(text, []byte("\n")); whole {
		if !isMetrics(line) {
			return fmt.Errorf("its %s is another program's", metricsFile)
		}
		return nil
	}
	written, err := r.YAML()
	if err == nil && !bytes.Equal(written, recipe) {
		err = fmt.Errorf("there are no steps in it, and its %s is not as a run writes it", recipeFile)
	}
	return err
}

// isMetrics reports whether a line has exactly the keys of Metrics.
func isMetrics(line []byte) bool {
	return checkpoints.IsJSONOf(&Metrics{}, line, "step", "tokens", "loss", "grad_norm", "lr", "tokens_per_s")
}

// addModel adds the folder of a model, if there is one.
func addModel(owned checkpoints.Owned, dir, folder string, own checkpoints.Recognizer) error {
	info, err := os.Lstat(filepath.Join(dir, folder))
	if err != nil || !info.IsDir() {
		return nil
	}
	below, err := own(filepath.Join(dir, folder))
	owned.Add(folder, below)
	owned.Files[folder+"/"] = checkpoints.AnySize
	return err
}

// recognizeCheckpoint is a [checkpoints.Recognizer] of the checkpoints of runs, including damaged ones.
func recognizeCheckpoint(dir string) (checkpoints.Owned, error) {
	owned := checkpoints.Owned{Files: map[string]int64{stateFile: checkpoints.AnySize}}
	var s state
	switch err := readSealed(filepath.Join(dir, stateFile), &s); {
	case errors.Is(err, errUnsealed) && s.Files == nil:
		return recognizeModel(dir)
	case err != nil: // unknown who wrote the other files
		return owned, addMatching(owned, dir, "", modelFile.MatchString)
	}
	damaged := strings.HasPrefix(filepath.Base(dir), "damaged-")
	for name, digest := range s.Files {
		owned.Files[name] = digest.Bytes
		if damaged {
			owned.Files[name] = checkpoints.AnySize
		}
	}
	return owned, nil
}

// recognizeResult is a [checkpoints.Recognizer] of the results of runs. Files that were changed since count as the
// user's.
func recognizeResult(dir string) (checkpoints.Owned, error) {
	run := filepath.Dir(dir)
	held, err := readResult(run)
	switch {
	case err != nil || held == nil && !earlierVersion(run):
		return checkpoints.Owned{}, nil // unknown who wrote the files
	case held == nil:
		return recognizeModel(dir)
	}
	same, _ := held.compare(dir)
	return held.owned(same), nil
}

// recognizeModel is a [checkpoints.Recognizer] of the folders of a run that hold a model. It goes by file names.
func recognizeModel(dir string) (checkpoints.Owned, error) {
	owned := checkpoints.Owned{Files: map[string]int64{"optimizer/": checkpoints.AnySize}}
	ours := func(name string) bool { return modelFile.MatchString(name) || weights.IsCompanion(name) }
	if err := addMatching(owned, dir, "", ours); err != nil {
		return owned, err
	}
	for _, module := range append(weights.Modules(dir), "optimizer") {
		if err := addMatching(owned, dir, filepath.ToSlash(module)+"/", moduleFile.MatchString); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return owned, err
		}
	}
	return owned, nil
}

// addMatching adds the files of a folder whose names match.
func addMatching(owned checkpoints.Owned, dir, folder string, match func(name string) bool) error {
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	for _, e := range entries {
		if match(e.Name()) {
			owned.Files[folder+e.Name()] = checkpoints.AnySize
		}
	}
	return err
}

// RecognizePredictions is a [checkpoints.Recognizer] of teachers' caches.
func RecognizePredictions(dir string) (checkpoints.Owned, error) {
	var key predictionsKey
	text, err := checkpoints.ReadMark(dir, predictionsKeyFile)
	if err == nil && (json.Unmarshal(text, &key) != nil || key.Vocab < 1 || key.TopK < 1) {
		err = fmt.Errorf("its %s is another program's", predictionsKeyFile)
	}
	if err != nil {
		return checkpoints.Owned{}, fmt.Errorf("it is not a teacher's cache: %w", err)
	}
	return checkpoints.Owned{Files: map[string]int64{predictionsKeyFile: checkpoints.AnySize, predictionsFile: checkpoints.AnySize}}, nil
}
