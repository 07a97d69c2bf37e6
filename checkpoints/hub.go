package checkpoints

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// HubModel says whether path lies in what a hub's cache holds of a model (models--ORG--NAME/snapshots/REVISION and
// models--ORG--NAME/blobs), links followed, and what the model is called there. Files there belong to the cache: it
// removes them as it sees fit.
func HubModel(path string) (name string, ok bool) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	parts := strings.Split(filepath.ToSlash(realPrefix(path)), "/")
	for i, part := range parts[1:] {
		repository := strings.Split(parts[i], "--")
		if slices.Contains([]string{"snapshots", "blobs"}, part) && repository[0] == "models" && len(repository) > 1 {
			return repository[len(repository)-1], true
		}
	}
	return "", false
}

// OutsideHub is the error of a result that would by default go into the folder dir, if that lies in a hub's cache.
func OutsideHub(dir string) error {
	if _, ok := HubModel(dir); !ok {
		return nil
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return fmt.Errorf("%s is in a hub's cache, where nothing is written unless it is asked for", dir)
}

// realPrefix follows the links in as much of path as exists.
func realPrefix(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if path == filepath.Dir(path) {
		return path
	}
	return filepath.Join(realPrefix(filepath.Dir(path)), filepath.Base(path))
}
