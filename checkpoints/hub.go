package checkpoints

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// HubModel reports whether path, with links followed, lies in a model's folder of a hub cache
// (models--ORG--NAME/snapshots/REVISION or models--ORG--NAME/blobs), and returns the name of the model. The cache owns
// such files and may remove them at any time.
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

// OutsideHub returns an error if dir, the default folder for a result, lies in a hub cache.
func OutsideHub(dir string) error {
	if _, ok := HubModel(dir); !ok {
		return nil
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return fmt.Errorf("%s is in a hub cache, which is never written to by default", dir)
}

// realPrefix resolves the links in the part of path that exists.
func realPrefix(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if path == filepath.Dir(path) {
		return path
	}
	return filepath.Join(realPrefix(filepath.Dir(path)), filepath.Base(path))
}
