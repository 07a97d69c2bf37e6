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
	"sync"

	"gqa/checkpoints"
	"gqa/configs/recipe"
	"gqa/internal/file"
)

// identityFile lies beside the recipe and records what must still hold when the run is resumed.
const identityFile = "identity.json"

// identity identifies by content what a run learns from, and holds the recipe that it started with. It is complete before
// the first step.
type identity struct {
	Run     string            `json:"run,omitempty"`            // random digits; empty if an earlier version started the run
	Model   *uint32           `json:"model_crc32c,omitempty"`   // of config.json and the weights
	Teacher *uint32           `json:"teacher_crc32c,omitempty"` // likewise; nil without a teacher
	Data    *fingerprint      `json:"data,omitempty"`
	Valid   *fingerprint      `json:"valid,omitempty"`  // nil without validation
	Recipe  map[string]string `json:"recipe,omitempty"` // by dotted key, as of the last start or resume
}

// fixedKeys are the recipe keys that cannot change within a run, because they determine what a step reads or what a
// checkpoint holds.
var fixedKeys = []string{
	"name", "batch", "accumulate", "seq_len", "seed", "packing", "optimizer.name", "optimizer.average",
	"train", "lora.rank", "lora.alpha", "lora.projections",
}

// firstValues are the values of fixed keys that earlier versions did not write.
var firstValues = sync.OnceValue(func() map[string]string {
	r, err := recipe.Default()
	if err != nil {
		panic(err) // it is embedded
	}
	values, err := recipeValues(&r)
	if err != nil {
		panic(err)
	}
	return values
})

// differs lists the parts in which two identities differ. Parts that only one of them has are ignored, since a run may
// add a teacher or validation later.
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
		if began.Recipe == nil || other.Recipe == nil {
			break
		}
		if cmp.Or(began.Recipe[key], firstValues()[key]) != cmp.Or(other.Recipe[key], firstValues()[key]) {
			parts = append(parts, key)
		}
	}
	return parts
}

// check returns an error if a run that was resumed with recipe does not learn from what it started with.
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

// adopt returns began completed by the parts that only now has.
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

// checkRecipe compares a run's recipe.yaml with the recipe that the run started with. All keys must be present, and fixed
// ones must be unchanged. edited lists the differences in other keys.
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

// sameValue compares two values of a recipe. Numbers may be written in different ways.
func sameValue(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return a == b || errX == nil && errY == nil && x == y
}

// recipeValues returns a recipe's values by key, as recipe.yaml has them.
func recipeValues(r *recipe.Recipe) (map[string]string, error) {
	text, err := r.YAML()
	if err != nil {
		return nil, err
	}
	return recipe.Values(text)
}

// readIdentity reads a run's identity file. It returns nil if the file is missing. If the file is damaged, readIdentity
// returns nil and an error.
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
