package convert

import (
	"slices"
	"strings"

	"gqa/internal/weights"
)

// weightEndings are files that hold weights in some format: a conversion replaces them, so they are not copied.
var weightEndings = []string{
	".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf",
	".ggml", ".onnx", ".onnx_data", ".ot", ".tflite", ".mlmodel", ".npz",
}

// sideFiles lists what is copied beside the weights: a model folder's other files or, for a single weight file, which may
// lie among anything, only those that are known to belong to a model.
func sideFiles(src *weights.Source) ([]string, error) {
	return weights.SideFiles(src.Dir, func(name string) bool { return belongs(name, src.Single) })
}

func belongs(name string, single bool) bool {
	ends := func(ending string) bool { return strings.HasSuffix(name, ending) }
	switch {
	case strings.HasPrefix(name, "."), name == "config.json", name == "conversion.json", slices.ContainsFunc(weightEndings, ends):
		return false
	case !single:
		return true
	}
	return weights.IsCompanion(name)
}
