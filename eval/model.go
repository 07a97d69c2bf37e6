package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/devices"
	"gqa/internal/engine/infer"
	"gqa/internal/model"
	"gqa/internal/weights"
)

// Model is a checkpoint ready to run.
type Model struct {
	Dir        string
	Arch       *configs.Arch
	Parameters int64
	*infer.Decoder

	kv       KVCache // that it was loaded with
	headRows int     // rows of logits in memory at once
}

// ModelOptions determine how a model is held in memory and where it runs. The zero value is F32 on the processor.
type ModelOptions struct {
	Weights checkpoints.DType // of the weights: F32, BF16 or F16. A GPU computes in BF16 if this is
	Cache   KVCache
	Device  string // auto, cpu, cuda or cuda:N; empty means cpu
}

// open opens the device.
func (o ModelOptions) open() (device.Device, error) {
	activations := device.F32
	if o.Weights == checkpoints.BF16 {
		activations = device.BF16
	}
	return devices.Open(o.Device, devices.Options{Activations: activations})
}

// formats returns the options in the decoder's form.
func (o ModelOptions) formats() (infer.Formats, error) {
	known := map[checkpoints.DType]device.Format{0: device.F32, checkpoints.F32: device.F32, checkpoints.BF16: device.BF16, checkpoints.F16: device.F16}
	w, ok := known[o.Weights]
	if !ok {
		return infer.Formats{}, fmt.Errorf("weights in %s: want F32, BF16 or F16", o.Weights)
	}
	kept, err := o.Cache.kept()
	return infer.Formats{Weights: w, Cache: kept.Format, Window: kept.Window, Sinks: kept.Sinks}, err
}

// LoadModel reads a checkpoint into memory: a folder, a .safetensors or PyTorch file, an index file, or a GGUF file that gqa-convert wrote.
func LoadModel(ctx context.Context, path string, o ModelOptions) (*Model, error) {
	if _, err := o.formats(); err != nil {
		return nil, err
	}
	if file, ok := GGUF(path); ok {
		m, err := loadGGUF(ctx, file, o)
		if err != nil {
			return nil, fmt.Errorf("model: %w", err)
		}
		return m, nil
	}
	src, err := weights.Open(path, weights.Options{})
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	defer src.Close()
	if err := src.CheckHead(); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	src.TellNotes()
	m, err := NewModel(o, src.Dir, src.Arch, src.Weights(ctx))
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return m, nil
}

// NewModel makes a model of weights. Its tokenizer, if one is needed, is read from dir.
func NewModel(o ModelOptions, dir string, arch *configs.Arch, values model.Weights) (*Model, error) {
	dev, err := o.open()
	if err != nil {
		return nil, err
	}
	return newModelOn(dev, o, dir, arch, values)
}

// newModelOn returns a model on a device, which it closes if it fails.
func newModelOn(dev device.Device, o ModelOptions, dir string, arch *configs.Arch, values model.Weights) (m *Model, err error) {
	defer func() {
		if err != nil {
			device.Close(dev)
		}
	}()
	n, err := weights.Parameters(arch)
	if err != nil {
		return nil, err
	}
	f, err := o.formats()
	if err != nil {
		return nil, err
	}
	d, err := infer.Build(dev, f, arch, values)
	if err := cmp.Or(err, dev.Err()); err != nil {
		return nil, err
	}
	const logits = 1 << 24 // 64 MiB
	return &Model{Dir: dir, Arch: arch, Parameters: n, Decoder: d, kv: o.Cache, headRows: max(1, logits/arch.Vocab)}, nil
}

// Described returns the model without its weights: it cannot run.
func (m *Model) Described() *Model {
	return &Model{Dir: m.Dir, Arch: m.Arch, Parameters: m.Parameters}
}

// Fit returns how many of the given number of tokens a sequence of the architecture can have: all of them, unless its
// positions end before.
func Fit(a *configs.Arch, tokens int) int {
	if limit := a.MaxPositions(); limit > 0 {
		return min(tokens, limit)
	}
	return tokens
}

// checkDecodes returns an error for a model that does not predict the next token.
func (m *Model) checkDecodes() error {
	if m.Arch.Causal {
		return nil
	}
	return fmt.Errorf("family %s %w: every token sees all others, and there is no KV cache", m.Arch.Family.Name, ErrDecode)
}

// ErrDecode is wrapped by errors about a model that does not predict the next token.
var ErrDecode = errors.New("does not decode")
