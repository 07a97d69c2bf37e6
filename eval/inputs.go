package eval

import (
	"fmt"

	"gqa/checkpoints"
	"gqa/internal/data"
	"gqa/internal/ops"
)

// inputs are sequences of equal length from a safetensors file: ids and, if the model has an encoder, the encoder's
// input.
type inputs struct {
	seqs, length int
	ids, types   []int32 // [seqs, length]; types may be nil
	lens         []int   // number of tokens of each sequence that are not padding; nil means all
	source       *inputs // the encoder's input; nil if there is none
}

// batch returns sequence i as a batch.
func (in *inputs) batch(i int) ops.Batch {
	b := ops.NewBatch(in.ids[i*in.length : (i+1)*in.length])
	if in.types != nil {
		b.Types = in.types[i*in.length : (i+1)*in.length]
	}
	if in.lens != nil {
		b.Lens = in.lens[i : i+1]
	}
	if in.source != nil {
		source := in.source.batch(i)
		b.Source = &source
	}
	return b
}

// readInputs reads input_ids, decoder_input_ids if the model has an encoder, and the masks and types that belong to them.
func readInputs(m *Model, path string) (*inputs, error) {
	ckpt, err := checkpoints.Open(path)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	in, err := readSequences(m, ckpt, "input_ids", "attention_mask")
	if err != nil {
		return nil, err
	}
	_, decoder := ckpt.Tensor("decoder_input_ids")
	if m.Arch.EncoderLayers == 0 {
		if decoder {
			return nil, fmt.Errorf("has decoder_input_ids, but family %s has no encoder to read input_ids with", m.Arch.Family.Name)
		}
		return in, in.readTypes(m, ckpt)
	}
	if !decoder {
		return nil, fmt.Errorf("has no decoder_input_ids: family %s reads input_ids with its encoder and predicts those", m.Arch.Family.Name)
	}
	out, err := readSequences(m, ckpt, "decoder_input_ids", "decoder_attention_mask")
	if err == nil && out.seqs != in.seqs {
		err = fmt.Errorf("decoder_input_ids has %d sequences, input_ids %d", out.seqs, in.seqs)
	}
	if err != nil {
		return nil, err
	}
	out.source = in
	return out, nil
}

// readSequences reads a tensor of ids [sequences, tokens] and its mask.
func readSequences(m *Model, ckpt *checkpoints.Checkpoint, name, mask string) (*inputs, error) {
	ids, shape, err := data.ReadIDs(ckpt, name, m.Arch.Vocab)
	if err == nil && (len(shape) != 2 || len(ids) == 0) {
		err = fmt.Errorf("%s has shape %v, want [sequences, tokens]", name, shape)
	}
	if err == nil {
		err = m.CheckLength(shape[1])
	}
	if err != nil {
		return nil, err
	}
	in := &inputs{seqs: shape[0], length: shape[1], ids: ids}
	in.lens, err = data.ReadLens(ckpt, mask, shape)
	return in, err
}

// readTypes reads token_type_ids.
func (in *inputs) readTypes(m *Model, ckpt *checkpoints.Checkpoint) (err error) {
	if _, ok := ckpt.Tensor("token_type_ids"); !ok || m.Arch.TokenTypes == 0 {
		return nil
	}
	var shape []int
	in.types, shape, err = data.ReadIDs(ckpt, "token_type_ids", m.Arch.TokenTypes)
	if err == nil && (len(shape) != 2 || shape[0] != in.seqs || shape[1] != in.length) {
		err = fmt.Errorf("token_type_ids has shape %v, input_ids %v", shape, []int{in.seqs, in.length})
	}
	return err
}
