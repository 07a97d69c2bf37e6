package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/internal/file"
	"gqa/internal/weights"
)

// origin is what a run keeps of the checkpoint that it starts from: the architecture and everything beside the weights in
// the folder. It is held in memory, because the folder may be gone when the run ends.
type origin struct {
	dir    string
	arch   *configs.Arch
	config []byte
	sum    uint32            // of config and weights
	dtype  checkpoints.DType // of the embedding
	dtypes map[string]string // of the tensors that have another, by name
	side   map[string][]byte // tokenizer and other small files, by name
	read   []string          // the files that all this was read from
	left   []string          // the files that are not copied to the result
}

// openOrigin opens a checkpoint and loads its weights, in f32, into the recipe's trainer.
func openOrigin(ctx context.Context, among *team, path string, r *recipe.Recipe) (*origin, *trainer, error) {
	src, err := weights.Open(path, weights.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	if err := src.CheckHead(); err != nil {
		return nil, nil, err
	}
	src.TellNotes()
	sum := modelSum{config: src.Config}
	t, err := newTrainerIn(among, r, src.Arch, sum.through(src.Weights(ctx)))
	if err != nil {
		return nil, nil, err
	}
	o := &origin{dir: src.Dir, arch: src.Arch, config: src.Config, sum: sum.crc()}
	o.read = append(slices.Clone(src.Files), "config.json")
	if src.Index != "" {
		o.read = append(o.read, src.Index)
	}
	if o.dtype, err = embeddingDType(src); err != nil {
		return nil, nil, err
	}
	o.dtypes = otherDTypes(src, o.dtype)
	o.side, o.left, err = readCompanions(src)
	for name := range o.side {
		o.read = append(o.read, filepath.ToSlash(name))
	}
	return o, t, err
}

// embeddingDType returns the dtype of the embedding, which represents the checkpoint's: norms or buffers may have
// another.
func embeddingDType(src *weights.Source) (checkpoints.DType, error) {
	params, err := src.Arch.Params()
	if err != nil {
		return 0, err
	}
	t, ok := src.Tensor(params[0].Tensor) // the first in the forward pass
	if !ok {
		return 0, fmt.Errorf("%s: %s is missing", src.Dir, params[0].Tensor)
	}
	return t.DType, nil
}

// otherDTypes returns the dtypes of the tensors whose dtype is another than usual.
func otherDTypes(src *weights.Source, usual checkpoints.DType) map[string]string {
	tensors, _ := src.Arch.Tensors() // they were already read
	others := map[string]string{}
	for _, t := range tensors {
		if stored, ok := src.Tensor(t.Name); ok && stored.DType != usual {
			others[t.Name] = stored.DType.String()
		}
	}
	return others
}

// readCompanions reads the small files that go with a model, and the record of its conversion, by name.
func readCompanions(src *weights.Source) (side map[string][]byte, left []string, err error) {
	names, left, err := src.SideFiles()
	if err != nil {
		return nil, nil, err
	}
	side = make(map[string][]byte, len(names))
	for _, name := range append(names, "conversion.json") {
		side[name], err = file.Read(filepath.Join(src.Dir, name))
		if name == "conversion.json" && errors.Is(err, fs.ErrNotExist) {
			delete(side, name)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if text, ok := side["conversion.json"]; ok { // lists the files of the conversion
		if text, err = weights.RewriteConfig(text, func(keys map[string]any) { delete(keys, "files") }); err == nil {
			side["conversion.json"] = text
		}
	}
	return side, left, nil
}

// write makes dir a Hugging Face folder with the weights in dtype, except for the tensors whose dtypes others gives.
func (o *origin) write(dir string, dtype checkpoints.DType, others map[string]checkpoints.DType, weight func(name string) []float32) error {
	const shardSize = 5e9
	if err := weights.WriteMixed(dir, o.arch, dtype, others, weight, checkpoints.WriteOptions{ShardSize: shardSize}); err != nil {
		return err
	}
	config, err := weights.RewriteConfig(o.config, func(keys map[string]any) { weights.SetDType(keys, dtype) })
	if err != nil {
		return err
	}
	if err := o.writeSide(dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666)
}

// writeSide writes what a folder of the model holds besides the weights.
func (o *origin) writeSide(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "config.json"), o.config, 0o666); err != nil {
		return err
	}
	for name, text := range o.side {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// exportDType returns the dtype of the result: the recipe's or else the origin's.
func exportDType(recipe *recipe.Recipe, source checkpoints.DType) (checkpoints.DType, error) {
	if recipe.ExportDType == "keep" {
		return source, nil
	}
	return checkpoints.ParseDType(strings.ToUpper(recipe.ExportDType))
}

// keptDTypes returns the dtypes, by name, of the tensors that a run leaves as they were, where these differ from the embedding's. Unless
// the result is to have its own dtype, they keep it, and with it their bits.
func keptDTypes(recipe *recipe.Recipe, arch *configs.Arch, dtypes map[string]string) (map[string]checkpoints.DType, error) {
	if recipe.ExportDType != "keep" || len(dtypes) == 0 {
		return nil, nil
	}
	params, err := arch.Params()
	if err != nil {
		return nil, err
	}
	trained := map[string]bool{}
	for _, p := range params {
		for _, name := range p.Tensors() {
			trained[name] = trained[name] || recipe.Trains(p)
		}
	}
	kept := map[string]checkpoints.DType{}
	for name, text := range dtypes {
		if trained[name] {
			continue
		}
		if kept[name], err = checkpoints.ParseDType(text); err != nil {
			return nil, err
		}
	}
	return kept, nil
}
