package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// parseIndex returns the weight_map of an index file: tensor name to shard, a base
// name.
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

// checkShardName keeps an index from leading out of its folder.
func checkShardName(tensor, file string) error {
	if !strings.HasSuffix(file, ".safetensors") && !isTorchName(file) || strings.ContainsAny(file, "/\\:\x00") {
		return fmt.Errorf("puts tensor %q into %q; want the name of a .safetensors or .bin file in the same folder", tensor, file)
	}
	return nil
}

// openIndex adds the shards that an index file names and checks that index and shards
// agree about every tensor.
func (c *Checkpoint) openIndex(name string) error {
	path := filepath.Join(c.Dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	shards, err := parseIndex(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, file := range slices.Compact(slices.Sorted(maps.Values(shards))) {
		err := c.openFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: names the shard %s, which is missing: download it too", path, file)
		}
		if err != nil {
			return err
		}
	}
	c.Index = name
	if err := c.checkIndex(shards); err != nil {
		return fmt.Errorf("%s: %w; index and shards are from different models: download both again", path, err)
	}
	return nil
}

func (c *Checkpoint) checkIndex(shards map[string]string) error {
	for _, name := range c.names {
		holder := filepath.Base(c.tensors[name].File)
		switch file, ok := shards[name]; {
		case !ok:
			return fmt.Errorf("lacks tensor %q, which is in %s", name, holder)
		case file != holder:
			return fmt.Errorf("puts tensor %q into %s, but it is in %s", name, file, holder)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shards)) {
		if c.tensors[name] == nil {
			return fmt.Errorf("puts tensor %q into %s, which lacks it", name, shards[name])
		}
	}
	return nil
}
