package data

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/tokenizer"
)

// Dataset is a corpus together with the training objective.
type Dataset struct {
	*Tokens
	Objective
	Window int // tokens per window: as requested, or as in the rows of labelled data
}

// Spread leaves n of the dataset's windows, at equal distances; all of them if there are no more, or if n is 0.
func (d *Dataset) Spread(n int) {
	if n == 0 || n*d.Window >= len(d.IDs) {
		return
	}
	all := len(d.IDs) / d.Window
	ids := make([]int32, 0, n*d.Window)
	for i := range n {
		at := (2*i + 1) * all / (2 * n) * d.Window
		ids = append(ids, d.Read(at, at+d.Window)...)
	}
	d.fault = d.Err()
	d.IDs, d.mapped = ids, nil
}

// Options configure the reading of a corpus.
type Options struct {
	MaxTokens int    // maximum number of tokens to read; 0: all
	TextKey   string // key of the text, or of the messages, in a record; empty: TextKey, or the usual ones of conversations
	SeqLen    int    // tokens per window, unless the data comes in rows
	Seed      uint64 // random seed for masking
	BadRows   int    // number of rows that may be unusable; 0: DefaultBadRows, less than 0: none
	Documents bool   // a token of a decoder sees its own document alone
	Cache     string // folder to keep a corpus's tokens in; empty: only those of a large one, in the user's cache folder
}

// Load reads data (as LoadTokens does) for the model in dir. If the file has labels and the model is not decoder-only,
// they are the targets. Otherwise an encoder predicts masked tokens, an encoder-decoder masked spans, and a decoder the
// next token.
func Load(ctx context.Context, name, dir string, a *configs.Arch, o Options) (*Dataset, error) {
	if a.Causal && a.EncoderLayers == 0 {
		s, err := LoadTokens(ctx, name, dir, a.Vocab, o)
		if o.Documents {
			return &Dataset{s, Packed{}, o.SeqLen}, err
		}
		return &Dataset{s, NextToken{}, o.SeqLen}, err
	}
	if o.Documents {
		return nil, errors.New("packing documents is for decoders that predict the next token; this model sees every token of a window")
	}
	if d, err := loadLabelled(name, a); d != nil || err != nil {
		return d, err
	}
	tok, err := LoadTokenizer(dir, a.Vocab)
	if err != nil {
		return nil, fmt.Errorf("%s has no labels, and masking tokens instead needs the model's tokenizer: %w", name, err)
	}
	of, err := masking(tok, a, o.Seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s, err := LoadTokens(ctx, name, dir, a.Vocab, o)
	if err == nil && slices.ContainsFunc(s.IDs, func(token int32) bool { return token != ID(token) }) {
		err = fmt.Errorf("%s: has conversations, from which only decoders learn what the assistant says; this model sees every token of a window", name)
	}
	return &Dataset{s, of, o.SeqLen}, err
}

// masking returns the objective for data without labels.
func masking(tok *tokenizer.Tokenizer, a *configs.Arch, seed uint64) (Objective, error) {
	if a.EncoderLayers == 0 {
		mask, ok := tok.ID("[MASK]")
		if !ok || int(mask) >= a.Vocab {
			return nil, errors.New("the model's tokenizer has no [MASK] token, or the model has no row for it; give data with input_ids and labels")
		}
		return Masked{mask, seed}, nil
	}
	s := Spans{Start: int32(a.StartToken), Pad: int32(a.PadToken), Seed: seed}
	var ok bool
	if s.End, ok = tok.EOS(); !ok {
		return nil, errors.New("the model's tokenizer has no end-of-text token; give data with input_ids and labels")
	}
	for {
		id, ok := tok.ID(fmt.Sprintf("<extra_id_%d>", len(s.Sentinels)))
		if !ok || int(id) >= a.Vocab {
			break
		}
		s.Sentinels = append(s.Sentinels, id)
	}
	if len(s.Sentinels) == 0 {
		return nil, errors.New("the model's tokenizer has no <extra_id_0> token, or the model has no row for it; give data with input_ids and labels")
	}
	return s, nil
}

// loadLabelled reads input_ids [rows, tokens], attention_mask and labels [rows, labels] from a safetensors file; nil if
// name is not such a file or has no labels.
func loadLabelled(name string, a *configs.Arch) (*Dataset, error) {
	if !strings.HasSuffix(name, ".safetensors") {
		return nil, nil
	}
	ckpt, err := checkpoints.Open(name)
	if err != nil {
		return nil, err
	}
	defer ckpt.Close()
	if _, ok := ckpt.Tensor("labels"); !ok {
		return nil, nil
	}
	d, err := readLabelled(ckpt, a)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.Name = name
	return d, nil
}

// LabelRows returns the number of labels in a row of a .safetensors file, or 0 if there is no such file or it has no
// labels.
func LabelRows(name string) int {
	if !strings.HasSuffix(name, ".safetensors") {
		return 0
	}
	ckpt, err := checkpoints.Open(name)
	if err != nil {
		return 0
	}
	defer ckpt.Close()
	if t, ok := ckpt.Tensor("labels"); ok && len(t.Shape) == 2 {
		return t.Shape[1]
	}
	return 0
}

func readLabelled(ckpt *checkpoints.Checkpoint, a *configs.Arch) (*Dataset, error) {
	ids, shape, err := ReadIDs(ckpt, "input_ids", a.Vocab)
	if err != nil {
		return nil, err
	}
	labels, lshape, err := readLabels(ckpt, "labels", a.Vocab)
	if err != nil {
		return nil, err
	}
	encoder := a.EncoderLayers == 0
	if len(shape) != 2 || len(lshape) != 2 || shape[0] != lshape[0] || encoder && shape[1] != lshape[1] || shape[1] == 0 || lshape[1] == 0 {
		return nil, fmt.Errorf("input_ids has shape %v, labels %v: want [rows, tokens] and [rows, labels], of equal shape if there is no decoder", shape, lshape)
	}
	if limit := a.MaxPositions(); limit > 0 && shape[1] > limit {
		return nil, fmt.Errorf("input_ids has rows of %d tokens, but the model has %d positions", shape[1], limit)
	}
	if !slices.ContainsFunc(labels, func(id int32) bool { return id >= 0 }) {
		return nil, errors.New("labels has nothing to predict: every one is -100")
	}
	lens, err := ReadLens(ckpt, "attention_mask", shape)
	if err != nil {
		return nil, err
	}
	d := &Dataset{
		Tokens:    &Tokens{},
		Objective: Labelled{Labels: lshape[1], ShiftRight: !encoder, Start: int32(a.StartToken), Pad: int32(a.PadToken)},
		Window:    shape[1] + lshape[1],
	}
	for r := range shape[0] {
		row := slices.Clone(ids[r*shape[1] : (r+1)*shape[1]])
		if lens != nil {
			for i := lens[r]; i < len(row); i++ {
				row[i] = -1
			}
		}
		d.IDs = append(append(d.IDs, row...), labels[r*lshape[1]:(r+1)*lshape[1]]...)
	}
	return d, nil
}
