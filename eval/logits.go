package eval

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gqa/checkpoints"
	"gqa/internal/ops"
	"gqa/internal/stream"
	"gqa/internal/weights"
)

// WriteLogits reads input_ids [B,T] from the safetensors file input and writes logits [B,T,vocab], f32, to the safetensors
// file output, which appears whole or not at all. With stepwise every token goes through the KV cache on its own.
func WriteLogits(ctx context.Context, m *Model, input, output string, stepwise bool) error {
	ids, shape, err := readIDs(m, input)
	if err != nil {
		return fmt.Errorf("input: %w", err)
	}
	if err := checkOutput(output, input); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	length := shape[1]
	forward := m.wholeLogits
	if stepwise {
		forward = m.stepLogits
	}
	spec := checkpoints.Spec{Name: "logits", DType: checkpoints.F32, Shape: []int{shape[0], length, m.Arch.Vocab}}
	return writeTensorFile(output, spec, func(w io.Writer) error {
		for at := 0; at < len(ids); at += length {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := forward(ids[at:at+length], w); err != nil {
				return err
			}
		}
		return nil
	})
}

func readIDs(m *Model, input string) ([]int32, []int, error) {
	ckpt, err := checkpoints.Open(input)
	if err != nil {
		return nil, nil, err
	}
	defer ckpt.Close()
	if _, ok := ckpt.Tensor("decoder_input_ids"); ok {
		return nil, nil, fmt.Errorf("%s: has decoder_input_ids, but family %s has no encoder to read input_ids with", input, m.Arch.Family.Name)
	}
	ids, shape, err := stream.IDs(ckpt, "input_ids", m.Arch.Vocab)
	if err == nil && (len(shape) != 2 || len(ids) == 0) {
		err = fmt.Errorf("input_ids has shape %v, want [sequences, tokens]", shape)
	}
	if err == nil {
		err = m.CheckLength(shape[1])
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", input, err)
	}
	return ids, shape, nil
}

// checkOutput finds out before the work what would be in its way.
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
	return nil
}

func (m *Model) wholeLogits(ids []int32, w io.Writer) error {
	hidden := m.Hidden(ops.NewBatch(ids))
	for lo := 0; lo < hidden.Rows; lo += m.headRows {
		logits := m.Head(hidden, lo, min(lo+m.headRows, hidden.Rows))
		if err := weights.WriteFloats(w, logits.Data, checkpoints.F32); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) stepLogits(ids []int32, w io.Writer) error {
	cache := m.NewCache(1, len(ids))
	for i := range ids {
		logits, err := m.Step(cache, ids[i:i+1])
		if err != nil {
			return err
		}
		if err := weights.WriteFloats(w, logits.Data, checkpoints.F32); err != nil {
			return err
		}
	}
	return nil
}

// writeTensorFile writes a safetensors file of one tensor: beside its place, then renamed into it.
func writeTensorFile(path string, spec checkpoints.Spec, data func(w io.Writer) error) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".logits-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	err = checkpoints.Write(dir, []checkpoints.Spec{spec}, checkpoints.WriteOptions{}, func(_ checkpoints.Spec, w io.Writer) error {
		return data(w)
	})
	if err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "model.safetensors"), path)
}
