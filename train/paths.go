package train

import (
	"fmt"
	"path/filepath"
	"strings"

	"gqa/configs/recipe"
	"gqa/internal/data"
	"gqa/internal/hub"
)

// resolvePaths makes a recipe's paths absolute, so that a run can be resumed from any folder, and replaces ids of models and data sets by
// their folders in the hub's cache.
func resolvePaths(r *recipe.Recipe) error {
	for _, p := range []struct {
		key  string
		kind hub.Kind
		path *string
	}{{"model", hub.Model, &r.Model}, {"teacher", hub.Model, &r.Distill.Teacher}, {"valid", hub.Dataset, &r.Valid}} {
		var err error
		if *p.path, err = absolute(p.kind, *p.path); err != nil {
			return fmt.Errorf("%s: %w", p.key, err)
		}
	}
	for _, path := range []*string{&r.Distill.Cache, &r.DataCache} {
		var err error
		if *path != "" {
			*path, err = filepath.Abs(*path)
		}
		if err != nil {
			return err
		}
	}
	all, err := r.Corpora()
	for i := range all {
		if err == nil {
			all[i].Path, err = absolute(hub.Dataset, all[i].Path)
		}
	}
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return r.SetCorpora(all)
}

// absolute returns the absolute path that a name of a model or corpus stands for. "" and a corpus of the sample stay as they are.
func absolute(kind hub.Kind, name string) (string, error) {
	if name == "" || strings.HasPrefix(name, data.SamplePrefix) {
		return name, nil
	}
	path, err := hub.Find(kind, name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// corpusPaths returns the paths of the training data, in the order of the recipe.
func corpusPaths(r *recipe.Recipe) (paths []string) {
	all, _ := r.Corpora() // the recipe was resolved
	for _, c := range all {
		paths = append(paths, c.Path)
	}
	return paths
}
