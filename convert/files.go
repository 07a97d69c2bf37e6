package convert

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/internal/weights"
)

// weightEndings are files that hold weights in some format: a conversion replaces them, so they are not copied.
var weightEndings = []string{
	".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf",
	".ggml", ".onnx", ".onnx_data", ".ot", ".tflite", ".mlmodel", ".npz",
}

// companions are the names, by pattern, that belong to a model wherever they lie.
var companions = []string{
	"tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "*.tiktoken",
	"generation_config.json", "preprocessor_config.json", "chat_template*", "configuration_*.py", "modeling_*.py", "tokenization_*.py",
}

// sideFiles lists what is copied beside the weights: a model folder's other files or, for a single weight file, which may
// lie among anything, only those that are known to belong to a model.
func sideFiles(src *weights.Source) ([]string, error) {
	entries, err := os.ReadDir(src.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(src.Dir, e.Name())) // through links: a hub cache is made of them
		if err != nil || !info.Mode().IsRegular() || !belongs(e.Name(), src.Single) {
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

func belongs(name string, single bool) bool {
	ends := func(ending string) bool { return strings.HasSuffix(name, ending) }
	switch {
	case strings.HasPrefix(name, "."), name == "config.json", name == "conversion.json", slices.ContainsFunc(weightEndings, ends):
		return false
	case !single:
		return true
	}
	return slices.ContainsFunc(companions, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, name)
		return ok
	})
}
