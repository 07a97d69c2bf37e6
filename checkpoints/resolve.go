package checkpoints

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	for _, name := range []string{weightsFile, indexFile} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return filepath.Join(path, name), nil
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", err
	}
	var indexes, weights, others []string
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, ".safetensors.index.json"):
			indexes = append(indexes, name)
		case strings.HasSuffix(name, ".safetensors"):
			weights = append(weights, name)
		case foreign(name) != "":
			others = append(others, name)
		}
	}
	return pick(path, indexes, weights, others)
}

// pick chooses among the files of a folder without the usual names.
func pick(dir string, indexes, weights, others []string) (string, error) {
	switch {
	case len(indexes) == 1:
		return filepath.Join(dir, indexes[0]), nil
	case len(indexes) > 1:
		return "", fmt.Errorf("%s: holds several indexes (%s); name the one to open", dir, strings.Join(indexes, ", "))
	case len(weights) == 1:
		return filepath.Join(dir, weights[0]), nil
	case len(weights) > 1:
		return "", fmt.Errorf("%s: holds %d .safetensors files (%s, ...) and no index; name the one to open, or add %s", dir, len(weights), weights[0], indexFile)
	case len(others) > 0:
		return "", fmt.Errorf("%s: holds no safetensors weights, but %s, which is %s; save it as safetensors (save_pretrained does)", dir, others[0], foreign(others[0]))
	}
	return "", fmt.Errorf("%s: holds no weights; want a folder with %s, or %s and its shards", dir, weightsFile, indexFile)
}

// foreign says what weights of another kind a file name stands for, or "".
func foreign(name string) string {
	kinds := map[string]string{
		".bin": pytorchKind, ".pt": pytorchKind, ".pth": pytorchKind, ".ckpt": pytorchKind,
		".gguf": ggufKind, ".h5": hdf5Kind, ".msgpack": "a Flax checkpoint",
	}
	return kinds[filepath.Ext(name)]
}

const (
	pytorchKind = "a PyTorch checkpoint (a pickle)"
	ggufKind    = "a GGUF file of llama.cpp"
	hdf5Kind    = "an HDF5 file of Keras or TensorFlow"
)

// magics are how files that get mistaken for safetensors begin.
var magics = []struct{ prefix, kind string }{
	{"PK\x03\x04", pytorchKind},
	{"\x80\x02", pytorchKind},
	{"GGUF", ggufKind},
	{"\x89HDF", hdf5Kind},
	{"\x1f\x8b", "a gzip file"},
	{"version https://git-lfs", "a Git LFS pointer, not the weights (run: git lfs pull)"},
	{"<!DOCTYPE", "a web page"},
	{"<html", "a web page"},
	{"{", "a JSON file"},
}

// sniff says what a file that is not safetensors is, or "" if nothing comes to mind.
func sniff(r io.ReaderAt, size int64) string {
	start := make([]byte, min(size, 512))
	if _, err := r.ReadAt(start, 0); err != nil && err != io.EOF {
		return ""
	}
	for _, m := range magics {
		if bytes.HasPrefix(start, []byte(m.prefix)) {
			return m.kind
		}
	}
	if size > 0 && isText(start) {
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
