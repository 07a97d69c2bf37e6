package checkpoints

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrNoWeights is wrapped by the error for a folder without weights in a supported format.
var ErrNoWeights = errors.New("holds no weights")

// choice is what to open in a folder: an index and its shards, or a list of files.
type choice struct {
	dir   string
	index string // "" for a list of files
	files []string
	kind  string // the format
	// rival is another possible set of weights in the folder; nil if there is none.
	rival *choice
}

// String returns a description for messages.
func (c choice) String() string {
	switch {
	case c.index != "":
		return c.index
	case len(c.files) == 1:
		return c.files[0]
	}
	return fmt.Sprintf("%s … %s", c.files[0], c.files[len(c.files)-1])
}

func isIndex(name string) bool { return strings.HasSuffix(name, "index.json") }

// resolve returns the weights that path, a file or a folder, stands for.
func resolve(path string) (choice, error) {
	info, err := os.Stat(path)
	if err != nil {
		return choice{}, err
	}
	if !info.IsDir() {
		c := choice{dir: filepath.Dir(path)}
		if name := filepath.Base(path); isIndex(name) {
			c.index = name
		} else {
			c.files = []string{name}
		}
		return c, nil
	}
	names, err := readNames(path)
	if err != nil {
		return choice{}, err
	}
	c, err := pick(names)
	if snapshots, _ := filepath.Glob(filepath.Join(path, "snapshots", "*")); err != nil && len(snapshots) > 0 {
		err = fmt.Errorf("is a model's folder in a hub cache; name the snapshot in it: %s", snapshots[0])
	}
	if err != nil {
		return choice{}, fmt.Errorf("%s: %w", path, err)
	}
	for at := &c; at != nil; at = at.rival {
		at.dir = filepath.Clean(path)
	}
	return c, nil
}

// format describes the file names of a weight format.
type format struct {
	file, index string                 // the usual names
	indexes     string                 // suffix of index files
	weights     func(name string) bool // reports whether a file may hold a model's weights
	what        string
}

// namings are in the order in which transformers looks for them.
var namings = []format{
	{weightsFile, indexFile, ".safetensors.index.json", isSafetensorsWeights, ".safetensors"},
	{torchFileName, torchIndexFile, ".bin.index.json", isTorchWeights, "PyTorch"},
}

// pick chooses among the files of a folder: safetensors before PyTorch, usual names before others.
func pick(names []string) (choice, error) {
	var found []choice
	for _, f := range namings {
		c, err := f.pick(names)
		c.kind = f.what
		switch {
		case err == nil:
			found = append(found, c)
		case !errors.Is(err, ErrNoWeights) && len(found) == 0:
			return choice{}, err
		}
	}
	if alone := only(names, isConsolidated); len(found) == 0 && len(alone) == 1 { // it may still use transformers' tensor names
		return choice{files: alone}, nil
	}
	if len(found) == 0 {
		return choice{}, fmt.Errorf("%w; want a folder with %s, or %s and its shards", ErrNoWeights, weightsFile, indexFile)
	}
	if len(found) > 1 && found[0].rival == nil {
		found[0].rival = &found[1]
	}
	return found[0], nil
}

// pick chooses among the files of one format.
func (f format) pick(names []string) (choice, error) {
	weights := only(names, f.weights)
	indexes := only(names, func(name string) bool { return strings.HasSuffix(name, f.indexes) })
	sets := shardSets(weights)
	whole := slices.IndexFunc(sets, func(s shardSet) bool { return s.missing == nil })
	switch {
	case slices.Contains(names, f.file):
		c := choice{files: []string{f.file}}
		if whole >= 0 {
			c.rival = &choice{files: sets[whole].files, kind: f.what}
		}
		return c, nil
	case slices.Contains(indexes, f.index):
		return choice{index: f.index}, nil
	case len(indexes) == 1:
		return choice{index: indexes[0]}, nil
	case len(indexes) > 1:
		return choice{}, fmt.Errorf("holds several indexes (%s); name the one to open", strings.Join(indexes, ", "))
	case len(sets) > 0:
		set, err := chooseSet(sets)
		return choice{files: set.files}, err
	case len(weights) == 1:
		return choice{files: weights}, nil
	case len(weights) > 1:
		return choice{}, fmt.Errorf("holds %d %s files (%s, ...) and no index; name the one to open, or add %s", len(weights), f.what, weights[0], f.index)
	}
	return choice{}, ErrNoWeights
}

func only(names []string, keep func(string) bool) (kept []string) {
	for _, name := range names {
		if keep(name) {
			kept = append(kept, name)
		}
	}
	return kept
}

// isTorchName reports whether name has an extension that torch.save files use.
func isTorchName(name string) bool {
	return slices.Contains([]string{".bin", ".pt", ".pth", ".ckpt"}, filepath.Ext(name))
}

// beside are files with weight-file extensions that do not hold the model: trainer state, adapters, files of other
// engines, and the formats of Meta and Mistral.
var beside = []string{
	"training_args.bin", "optimizer*", "scheduler*", "scaler.pt", "rng_state*", "*_model_states.pt", "*_optim_states.pt",
	"adapter_model.*", "pytorch_lora_weights*", "openvino_*.bin", "consolidated*",
}

func isConsolidated(name string) bool {
	return strings.HasPrefix(name, "consolidated") && (isTorchName(name) || filepath.Ext(name) == ".safetensors")
}

func isModels(name string) bool {
	return !slices.ContainsFunc(beside, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, name)
		return ok
	})
}

func isSafetensorsWeights(name string) bool {
	return filepath.Ext(name) == ".safetensors" && isModels(name)
}

func isWeights(name string) bool { return isSafetensorsWeights(name) || isTorchWeights(name) }

func isTorchWeights(name string) bool { return isTorchName(name) && isModels(name) }

// magics are the first bytes of files that are often mistaken for weights.
var magics = []struct{ prefix, kind string }{
	{"GGUF", "a GGUF file of llama.cpp"},
	{"\x89HDF", "an HDF5 file of Keras or TensorFlow"},
	{"\x1f\x8b", "a gzip file"},
	{"version https://git-lfs", "a Git LFS pointer, not the weights (run: git lfs pull)"},
	{"<!DOCTYPE", "a web page"},
	{"<html", "a web page"},
	{"{", "a JSON file"},
}

// sniff describes a file that is not safetensors and begins with start, or returns "".
func sniff(start []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(start, []byte(m.prefix)) {
			return m.kind
		}
	}
	if len(start) > 0 && isText(start) {
		return "a text file"
	}
	return ""
}

// isText reports whether b is UTF-8 text without control characters; the last rune may be cut off.
func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 && utf8.FullRune(b) {
			return false
		}
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' {
			return false
		}
		b = b[n:]
	}
	return true
}
