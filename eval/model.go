package eval

import (
	"context"
	"fmt"

	"gqa/configs"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/infer"
	"gqa/internal/model"
	"gqa/internal/weights"
)

// Model is a checkpoint ready to run forward.
type Model struct {
	Dir        string
	Arch       *configs.Arch
	Parameters int64
	*infer.Decoder

	headRows int // rows of logits in memory at once
}

// LoadModel reads a checkpoint (a folder, a .safetensors or PyTorch file, an index file) into memory, in f32.
func LoadModel(ctx context.Context, path string) (*Model, error) {
	return LoadModelIn(ctx, infer.Formats{}, path)
}

// LoadModelIn is LoadModel with weights and cache kept in other formats.
func LoadModelIn(ctx context.Context, f infer.Formats, path string) (*Model, error) {
	src, err := weights.Open(path, weights.Options{})
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	defer src.Close()
	if err := src.CheckHead(); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	src.TellNotes()
	m, err := newModel(f, src.Dir, src.Arch, src.Weights(ctx))
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return m, nil
}

func newModel(f infer.Formats, dir string, arch *configs.Arch, values model.Weights) (*Model, error) {
	n, err := weights.Parameters(arch)
	if err != nil {
		return nil, err
	}
	d, err := infer.Build(cpu.New(), f, arch, values)
	if err != nil {
		return nil, err
	}
	const logits = 1 << 24 // 64 MiB
	return &Model{Dir: dir, Arch: arch, Parameters: n, Decoder: d, headRows: max(1, logits/arch.Vocab)}, nil
}

// Fit is how many of tokens a sequence of the architecture can have: all of them, unless its positions end before.
func Fit(a *configs.Arch, tokens int) int {
	if limit := a.MaxPositions(); limit > 0 {
		return min(tokens, limit)
	}
	return tokens
}

// checkDecodes refuses a model that predicts no next token.
func (m *Model) checkDecodes() error {
	if m.Arch.Causal {
		return nil
	}
	return fmt.Errorf("family %s does not decode: every token sees all others, and there is no KV cache", m.Arch.Family.Name)
}
