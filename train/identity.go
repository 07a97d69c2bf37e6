package train

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/file"
)

// identityFile is beside the recipe: what the run must still be when it is resumed.
const identityFile = "identity.json"

// identity is what a run learns from, by content, and the recipe that it began with. It holds from before the first step on.
type identity struct {
	Run     string            `json:"run,omitempty"`            // of random digits; none: an earlier version began it
	Model   *uint32           `json:"model_crc32c,omitempty"`   // of config.json and weights
	Teacher *uint32           `json:"teacher_crc32c,omitempty"` // likewise; none: no teacher
	Data    *fingerprint      `json:"data,omitempty"`
	Valid   *fingerprint      `json:"valid,omitempty"`  // none: no validation
	Recipe  map[string]string `json:"recipe,omitempty"` // by dotted key, as it was begun or resumed last
}

// fixedKeys are the keys of a recipe that cannot change within a run: they say what a step reads, and what a checkpoint holds.
var fixedKeys = []string{"name", "batch", "accumulate", "seq_len", "seed", "optimizer.name", "optimizer.average"}

// differs lists the parts in which two identities differ. What one of them does not have does not count: a run may begin to
// follow a teacher or to validate later.
func (began identity) differs(other identity) (parts []string) {
	for _, part := range []struct {
		name string
		same bool
	}{
		{"model", equalOrNone(began.Model, other.Model)},
		{"teacher", equalOrNone(began.Teacher, other.Teacher)},
		{"data", equalOrNone(began.Data, other.Data)},
		{"valid", equalOrNone(began.Valid, other.Valid)},
		{"run", began.Run == "" || other.Run == "" || began.Run == other.Run},
	} {
		if !part.same {
			parts = append(parts, part.name)
		}
	}
	for _, key := range fixedKeys {
		if was, is := began.Recipe[key], other.Recipe[key]; began.Recipe != nil && other.Recipe != nil && was != is {
			parts = append(parts, key)
		}
	}
	return parts
}

// check is the error of a run that was resumed as recipe has it and does not learn from what it began with.
func (began identity) check(now identity, recipe *recipe.Recipe) error {
	paths := map[string]string{"model": recipe.Model, "teacher": recipe.Distill.Teacher, "data": recipe.Data, "valid": recipe.Valid}
	var changed []string
	for _, part := range began.differs(now) {
		changed = append(changed, fmt.Sprintf("%s: %s has changed since the run began", part, paths[part]))
	}
	if changed == nil {
		return nil
	}
	return fmt.Errorf("%s; put back what was there, or start another run", strings.Join(changed, "; "))
}

func equalOrNone[T comparable](began, now *T) bool {
	return began == nil || now == nil || *began == *now
}

// adopt is began with what only now has.
func (began identity) adopt(now identity) identity {
	if began.Recipe == nil {
		began.Recipe = now.Recipe
	}
	return identity{
		cmp.Or(began.Run, now.Run),
		cmp.Or(began.Model, now.Model), cmp.Or(began.Teacher, now.Teacher), cmp.Or(began.Data, now.Data), cmp.Or(began.Valid, now.Valid),
		began.Recipe,
	}
}

// checkRecipe compares a run's recipe.yaml with the recipe that the run began with: it must have all keys, and the fixed ones
// must have their values. edited lists what differs in others.
func (began identity) checkRecipe(dir string) (edited []string, err error) {
	if began.Recipe == nil {
		return nil, nil
	}
	path := filepath.Join(dir, recipeFile)
	text, err := file.ReadMax(path, 1<<20)
	if err != nil {
		return nil, err
	}
	now, err := recipe.Values(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(began.Recipe)) {
		value, ok := now[key]
		switch change := fmt.Sprintf("%s was %s, now %s", key, began.Recipe[key], value); {
		case !ok:
			changed = append(changed, key+" is missing")
		case sameValue(value, began.Recipe[key]):
		case slices.Contains(fixedKeys, key):
			changed = append(changed, change)
		default:
			edited = append(edited, change)
		}
	}
	if changed != nil {
		return nil, fmt.Errorf("%s: is not what the run began with: %s; put it back, or start another run", path, strings.Join(changed, ", "))
	}
	return edited, nil
}

// sameValue compares values of a recipe: numbers may be written in several ways.
func sameValue(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return a == b || errX == nil && errY == nil && x == y
}

// recipeValues are a recipe's keys as recipe.yaml has them.
func recipeValues(r *recipe.Recipe) (map[string]string, error) {
	text, err := r.YAML()
	if err != nil {
		return nil, err
	}
	return recipe.Values(text)
}

// readIdentity reads what a run began with: nothing where the file is missing. One that is damaged is told by the error, and is
// nothing too.
func readIdentity(dir string) (began identity, damage error) {
	err := readSealed(filepath.Join(dir, identityFile), &began)
	switch {
	case err == nil:
		return began, nil
	case errors.Is(err, fs.ErrNotExist):
		return identity{}, nil
	}
	return identity{}, err
}

func writeIdentity(dir string, began identity) error {
	text, err := seal(began)
	if err != nil {
		return err
	}
	return checkpoints.WriteFileAtomic(filepath.Join(dir, identityFile), text, 0o666)
}
