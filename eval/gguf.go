package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gqa/checkpoints"
	"gqa/checkpoints/gguf"
	"gqa/configs"
	"gqa/internal/file"
	"gqa/internal/llamacpp"
	"gqa/internal/model"
	"gqa/internal/weights"
)

// ggufFile is the name of a GGUF file as gqa-convert writes it.
const ggufFile = "model.gguf"

// GGUF returns the GGUF file that a path stands for: itself, or the one of a folder that gqa-convert wrote; false if it is neither.
func GGUF(path string) (string, bool) {
	if strings.HasSuffix(path, ".gguf") {
		return path, true
	}
	path = filepath.Join(path, ggufFile)
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().IsRegular()
}

// loadGGUF reads a GGUF file that gqa-convert wrote. The file says how llama.cpp computes the model; what this toolkit needs, and the
// tokenizer, are taken from the checkpoint that it was made of, which conversion.json names.
func loadGGUF(ctx context.Context, path string, o ModelOptions) (*Model, error) {
	f, err := gguf.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no such file", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, arch, err := madeOf(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer src.Close()
	if err := src.CheckHead(); err != nil {
		return nil, err
	}
	src.TellNotes()
	values, err := ggufWeights(ctx, f, path, arch)
	if err != nil {
		return nil, err
	}
	return NewModel(o, src.Dir, arch, values)
}

// madeOf opens the checkpoint that a GGUF file was made of, and returns the architecture of the file.
func madeOf(path string) (*weights.Source, *configs.Arch, error) {
	dir := filepath.Dir(path)
	text, err := file.Read(filepath.Join(dir, "conversion.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.New("there is no conversion.json beside it: only GGUF files that gqa-convert wrote are read, in their folder")
	}
	if err != nil {
		return nil, nil, err
	}
	var record struct {
		Source   string               `json:"source"`
		Sites    map[configs.Site]int `json:"kv_heads_by_site"`
		PerLayer []int                `json:"groups_per_layer"`
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return nil, nil, fmt.Errorf("conversion.json: %w", err)
	}
	source := filepath.Join(dir, "..", record.Source) // where a conversion's result is by default
	if _, err := os.Stat(source); err != nil {
		source = record.Source
	}
	src, err := weights.Open(source, weights.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("the checkpoint that it was made of is needed too, beside its folder or in the current one: %w", err)
	}
	arch := src.Arch
	for site, n := range record.Sites {
		arch = arch.WithKVHeads(n, site)
	}
	if record.PerLayer != nil {
		arch = arch.WithLayerKVHeads(record.PerLayer)
	}
	return src, arch, nil
}

// ggufWeights returns the weights of an architecture, which a file must hold as llama.cpp stores them.
func ggufWeights(ctx context.Context, f *gguf.File, path string, arch *configs.Arch) (model.Weights, error) {
	dtype := func(string) checkpoints.DType { return checkpoints.F32 }
	described, err := llamacpp.Describe(arch, "", dtype)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	params, err := arch.Params()
	if err != nil {
		return nil, err
	}
	held := make([]bool, len(params))
	for _, t := range described.Tensors {
		got, ok := f.Spec(t.Name)
		if !ok || !slices.Equal(got.Shape, t.Shape) {
			return nil, fmt.Errorf("%s: tensor %s has shape %v, want %v: the conversion.json beside the file is not its own", path, t.Name, got.Shape, t.Shape)
		}
		for _, part := range t.Parts {
			if part.Param >= 0 {
				held[part.Param] = true
			}
		}
	}
	if i := slices.Index(held, false); i >= 0 {
		return nil, fmt.Errorf("%s: the file does not hold %s, which the model needs to predict tokens", path, params[i].Name)
	}
	return func(yield func(p configs.Param, data []float32) error) error {
		done := make([]bool, len(params))
		for _, t := range described.Tensors {
			if err := ctx.Err(); err != nil {
				return err
			}
			values, err := f.Floats(t.Name)
			if err != nil {
				return err
			}
			if err := eachPart(t, values, params, done, yield); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// eachPart passes the weights in a tensor to yield, once each.
func eachPart(t llamacpp.Tensor, values []float32, params []configs.Param, done []bool, yield func(p configs.Param, data []float32) error) error {
	for _, part := range t.Parts {
		if part.Param < 0 {
			values = values[len(part.Values):]
			continue
		}
		p := params[part.Param]
		n := p.Size()
		data := values[:n:n]
		if values = values[n:]; done[part.Param] { // a copy of the embedding
			continue
		}
		done[part.Param] = true
		if err := yield(p, original(part, data, n/p.Shape[0])); err != nil {
			return err
		}
	}
	return nil
}

// original undoes what was done to a weight for llama.cpp. Rows have width elements.
func original(part llamacpp.Part, data []float32, width int) []float32 {
	for i := range data {
		if part.Gain != 0 {
			data[i] /= part.Gain
		}
		data[i] -= part.Offset
	}
	if part.Rows == nil {
		return data
	}
	all := make([]float32, len(data))
	for i, row := range part.Rows {
		copy(all[row*width:(row+1)*width], data[i*width:])
	}
	return all
}
