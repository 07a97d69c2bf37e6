package checkpoints

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

func isIndex(name string) bool { return strings.HasSuffix(name, "index.json") }

// resolve returns the weight or index file that path, a file or a folder, means.
func resolve(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return filepath.Clean(path), nil
	}
	names, err := readNames(path)
	if err != nil {
		return "", err
	}
	name, err := pick(names)
	if snapshots, _ := filepath.Glob(filepath.Join(path, "snapshots", "*")); err != nil && len(snapshots) > 0 {
		err = fmt.Errorf("is a model's folder in the hub's cache; name the snapshot in it: %s", snapshots[0])
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return filepath.Join(path, name), nil
}

// pick chooses among the files of a folder: safetensors before PyTorch, the usual names
// before others.
func pick(names []string) (string, error) {
	for _, kind := range []struct {
		usual   []string
		index   string // how the names of indexes end
		weights func(name string) bool
		what    string
	}{
		{[]string{weightsFile, indexFile}, ".safetensors.index.json", isSafetensorsName, ".safetensors"},
		{[]string{torchFileName, torchIndexFile}, ".bin.index.json", isTorchWeights, "PyTorch"},
	} {
		for _, name := range kind.usual {
			if slices.Contains(names, name) {
				return name, nil
			}
		}
		indexes := only(names, func(name string) bool { return strings.HasSuffix(name, kind.index) })
		weights := only(names, kind.weights)
		switch {
		case len(indexes) == 1:
			return indexes[0], nil
		case len(indexes) > 1:
			return "", fmt.Errorf("holds several indexes (%s); name the one to open", strings.Join(indexes, ", "))
		case len(weights) == 1:
			return weights[0], nil
		case len(weights) > 1:
			return "", fmt.Errorf("holds %d %s files (%s, ...) and no index; name the one to open, or add %s", len(weights), kind.what, weights[0], kind.usual[1])
		}
	}
	if others := only(names, func(name string) bool { return foreign(name) != "" }); len(others) > 0 {
		return "", fmt.Errorf("holds no safetensors weights, but %s, which is %s; save it as safetensors (save_pretrained does)", others[0], foreign(others[0]))
	}
	return "", fmt.Errorf("holds no weights; want a folder with %s, or %s and its shards", weightsFile, indexFile)
}

func only(names []string, keep func(string) bool) (kept []string) {
	for _, name := range names {
		if keep(name) {
			kept = append(kept, name)
		}
	}
	return kept
}

func isSafetensorsName(name string) bool { return filepath.Ext(name) == ".safetensors" }

// isTorchName says whether torch.save writes files of such names.
func isTorchName(name string) bool {
	return slices.Contains([]string{".bin", ".pt", ".pth", ".ckpt"}, filepath.Ext(name))
}

// isTorchWeights is isTorchName without what a trainer leaves beside the weights.
func isTorchWeights(name string) bool {
	others := []string{"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt", "scaler.pt"}
	return isTorchName(name) && !slices.Contains(others, name) && !strings.HasPrefix(name, "rng_state")
}

// foreign says what weights of another kind a file name stands for, or "".
func foreign(name string) string {
	kinds := map[string]string{".gguf": ggufKind, ".h5": hdf5Kind, ".msgpack": "a Flax checkpoint"}
	return kinds[filepath.Ext(name)]
}

const (
	ggufKind = "a GGUF file of llama.cpp"
	hdf5Kind = "an HDF5 file of Keras or TensorFlow"
)

// magics are how files that get mistaken for weights begin.
var magics = []struct{ prefix, kind string }{
	{"GGUF", ggufKind},
	{"\x89HDF", hdf5Kind},
	{"\x1f\x8b", "a gzip file"},
	{"version https://git-lfs", "a Git LFS pointer, not the weights (run: git lfs pull)"},
	{"<!DOCTYPE", "a web page"},
	{"<html", "a web page"},
	{"{", "a JSON file"},
}

// sniff says what a file that is not safetensors and begins with start is, or "" if
// nothing comes to mind.
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

// isText reports whether b is UTF-8, but for a rune cut off at the end, without
// control characters.
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
