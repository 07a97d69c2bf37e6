package eval

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/internal/file"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// WriteLogits reads input_ids [B,T] from the safetensors file input and writes logits [B,T,vocab], f32, to the
// safetensors file output, which appears complete or not at all. With stepwise every token goes through the KV cache on
// its own.
//
// If the model has an encoder, the encoder reads input_ids, and the logits are those of decoder_input_ids. attention_mask
// and token_type_ids are used if the model supports them. Sums are precise if the model needs that and runs on the processor.
func WriteLogits(ctx context.Context, m *Model, input, output string, stepwise bool) error {
	in, err := readInputs(m, input)
	if err != nil {
		return fmt.Errorf("input: %s: %w", input, err)
	}
	if err := checkOutput(output, input); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	m.Until(ctx)
	defer m.Until(context.Background())
	if !m.Precise(true) {
		slog.Warn("the logits are less exact than on the processor, which computes this model's sums in float64", "device", m.DeviceName())
	}
	defer m.Precise(false)
	forward := m.wholeLogits
	if stepwise {
		if err := m.checkDecodes(); err != nil {
			return err
		}
		forward = m.stepLogits
	}
	spec := checkpoints.Spec{Name: "logits", DType: checkpoints.F32, Shape: []int{in.seqs, in.length, m.Arch.Vocab}}
	return writeTensorFile(output, spec, func(w io.Writer) error {
		for i := range in.seqs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := forward(ctx, in.batch(i), w); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkOutput checks the output path before computing anything.
func checkOutput(output, input string) error {
	dir, err := os.Stat(filepath.Dir(output))
	if err != nil || !dir.IsDir() {
		return fmt.Errorf("there is no folder %s to write %s into", filepath.Dir(output), filepath.Base(output))
	}
	out, err := os.Stat(output)
	if err != nil {
		return nil // a new file
	}
	if out.IsDir() {
		return fmt.Errorf("%s is a folder; name a file", output)
	}
	if in, err := os.Stat(input); err == nil && os.SameFile(in, out) {
		return fmt.Errorf("%s is the input; name another file", output)
	}
	if err := file.Check(output, out); err != nil {
		return err
	}
	if old, err := checkpoints.Open(output); err == nil { // do not overwrite weights by mistake
		defer old.Close()
		for _, name := range old.Names() {
			if name != "logits" {
				return fmt.Errorf("%s holds a tensor %s; only a file of logits is replaced: name another", output, name)
			}
		}
	}
	return nil
}

func (m *Model) wholeLogits(ctx context.Context, b ops.Batch, w io.Writer) error {
	hidden := m.Hidden(b)
	for lo := 0; lo < hidden.Rows; lo += m.headRows {
		logits := m.Head(hidden, lo, min(lo+m.headRows, hidden.Rows))
		if err := ctx.Err(); err != nil {
			return err
		}
		values := m.Host(logits)
		if err := cmp.Or(m.Err(), weights.WriteFloats(w, values, checkpoints.F32)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) stepLogits(ctx context.Context, b ops.Batch, w io.Writer) error {
	cache := m.NewCache(1, b.Len)
	if b.Source != nil {
		if err := m.Encode(cache, *b.Source); err != nil {
			return err
		}
	}
	for i := range b.IDs {
		logits, err := m.Step(cache, b.IDs[i:i+1])
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		values := m.Host(logits)
		if err := cmp.Or(m.Err(), weights.WriteFloats(w, values, checkpoints.F32)); err != nil {
			return err
		}
	}
	return nil
}

// writeTensorFile writes a safetensors file with one tensor: first beside its destination, then renamed.
func writeTensorFile(path string, spec checkpoints.Spec, data func(w io.Writer) error) error {
	dir, remove, err := checkpoints.TempFolder(path)
	if err != nil {
		return err
	}
	defer remove() //nolint:errcheck // cleans up after another error
	err = checkpoints.Write(dir, []checkpoints.Spec{spec}, checkpoints.WriteOptions{}, func(_ checkpoints.Spec, w io.Writer) error {
		return data(w)
	})
	if err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "model.safetensors"), path)
}
