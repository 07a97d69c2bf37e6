package weights

import (
	"os"
	"path/filepath"
)

// modelOf is where the model lies that a path names: in the folder of an up-training, model/ is the result; any other path is
// its own.
func modelOf(path string) (string, error) {
	if !isFile(filepath.Join(path, "recipe.yaml")) || !isFile(filepath.Join(path, "metrics.jsonl")) || isFile(filepath.Join(path, "config.json")) {
		return path, nil
	}
	model := filepath.Join(path, "model")
	if _, err := os.Stat(model); err != nil {
		return "", UnfinishedError{path}
	}
	return model, nil
}

// UnfinishedError reports the folder of an up-training that has no result yet.
type UnfinishedError struct{ Run string }

// Error names the run.
func (e UnfinishedError) Error() string {
	return e.Run + ": is a run that is not finished, so it has no model yet"
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
