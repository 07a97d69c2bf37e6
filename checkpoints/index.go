package checkpoints

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"gqa/internal/file"
)

// parseIndex returns the weight_map of an index file, which maps tensor names to shards (base names).
func parseIndex(data []byte) (map[string]string, error) {
	var shards map[string]string
	err := parseObject(data, func(p parser, key string) error {
		if key != "weight_map" {
			return p.skip()
		}
		shards = map[string]string{}
		err := p.object(func(tensor string) error {
			file, err := p.text()
			if err != nil {
				return err
			}
			shards[tensor] = file
			return checkShardName(tensor, file)
		})
		if err != nil {
			return fmt.Errorf("has a weight_map that %w", err)
		}
		return nil
	})
	if err == nil && shards == nil {
		err = errors.New("has no weight_map")
	}
	return shards, err
}

// checkShardName rejects a shard name that points outside the folder.
func checkShardName(tensor, file string) error {
	if !strings.HasSuffix(file, ".safetensors") && !isTorchName(file) || strings.ContainsAny(file, "/\\:\x00") {
		return fmt.Errorf("maps tensor %q to %q; want the name of a .safetensors or .bin file in the same folder", tensor, file)
	}
	return nil
}

// maxText is the size limit, in bytes, for config.json and index files: far more than the names of any model need.
const maxText = maxHeader

// openIndex adds the shards named by an index file. The index decides between tensors that are in several shards. An
// index that is empty, or belongs to another save than the shards beside it, is ignored if those shards form a complete
// set.
func (c *Checkpoint) openIndex(name string) error {
	path := filepath.Join(c.Dir, name)
	data, err := file.ReadMax(path, maxText)
	if err != nil {
		return err
	}
	shards, err := parseIndex(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	files := slices.Compact(slices.Sorted(maps.Values(shards)))
	stale, instead, err := c.stale(files)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if stale != "" {
		c.Notes = append(c.Notes, fmt.Sprintf("%s: is out of date: it %s; the complete set %v is read without the index", path, stale, choice{files: instead}))
		return c.openFiles(instead)
	}
	c.Index, c.listed = name, shards
	if err := c.openFiles(files); err != nil {
		return err
	}
	c.compareIndex(path)
	return nil
}

// stale describes how an index that names files contradicts a complete set of shards in the folder, and returns that
// set; how is "" if it does not. The error is about missing shards.
func (c *Checkpoint) stale(files []string) (how string, instead []string, err error) {
	names, err := readNames(c.Dir)
	if err != nil {
		return "", nil, err
	}
	if len(files) == 0 {
		for _, set := range shardSets(only(names, isWeights)) {
			if set.missing == nil {
				return "lists no tensors", set.files, nil
			}
		}
		return "", nil, errors.New("lists no tensors, and there is no complete set of shards beside it: download it again")
	}
	gone := only(files, func(name string) bool { return !slices.Contains(names, name) })
	for _, set := range shardSets(names) {
		if set.missing != nil || set.ext != filepath.Ext(files[0]) {
			continue
		}
		part := !slices.ContainsFunc(files, func(name string) bool { return !slices.Contains(set.files, name) })
		switch {
		case len(gone) > 0:
			return "names " + absent(gone), set.files, nil
		case part && len(files) < len(set.files):
			return fmt.Sprintf("names %d of %d shards", len(files), len(set.files)), set.files, nil
		case !part:
			c.Notes = append(c.Notes, fmt.Sprintf("%s: also holds the shards %s … %s, which the index does not name; they are not read",
				c.Dir, set.files[0], set.files[len(set.files)-1]))
		}
	}
	if len(gone) > 0 {
		return "", nil, fmt.Errorf("names %s; download it too", absent(gone))
	}
	return "", nil, nil
}

// compareIndex notes disagreements between the index and the shards. Whether a missing tensor is needed is up to the
// family.
func (c *Checkpoint) compareIndex(path string) {
	var nowhere, elsewhere []string
	for _, name := range slices.Sorted(maps.Keys(c.listed)) {
		t := c.tensors[name]
		if t == nil {
			nowhere = append(nowhere, name)
			continue
		}
		if holder := filepath.Base(t.File); holder != c.listed[name] {
			elsewhere = append(elsewhere, fmt.Sprintf("%s is in %s, not in %s", name, holder, c.listed[name]))
		}
	}
	if nowhere != nil {
		c.Notes = append(c.Notes, fmt.Sprintf("%s: is out of date: it lists %d tensors, %d of which are in no shard: %s", path, len(c.listed), len(nowhere), list(nowhere)))
	}
	if elsewhere != nil {
		c.Notes = append(c.Notes, fmt.Sprintf("%s: is out of date: %s; each is read from where it was found", path, list(elsewhere)))
	}
	if c.copies != nil {
		c.Notes = append(c.Notes, fmt.Sprintf("%s: maps these tensors to other shards, so these copies are not read: %s", path, list(c.copies)))
	}
}
