package eval

import (
	"fmt"

	"gqa/configs"
	"gqa/internal/engine/decode"
	"gqa/internal/weights"
)

// Model is a checkpoint ready to run forward.
type Model struct {
	Dir        string
	Arch       *configs.Arch
	Parameters int64
	*decode.Decoder
}

// LoadModel reads a checkpoint (a folder, a .safetensors file, an index file) into memory, in f32.
func LoadModel(path string) (*Model, error) {
	src, err := weights.Open(path, weights.Options{})
	if err != nil {
		return nil, err
	}
	defer src.Close()
	all, err := src.All()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	n, err := weights.Parameters(src.Arch)
	if err != nil {
		return nil, err
	}
	return &Model{Dir: src.Dir, Arch: src.Arch, Parameters: n, Decoder: decode.New(src.Arch, all)}, nil
}
