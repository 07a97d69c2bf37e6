package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"

	"gqa/checkpoints"
	"gqa/checkpoints/gguf"
	"gqa/internal/file"
	"gqa/internal/llamacpp"
	"gqa/internal/tokenizer"
	"gqa/internal/weights"
)

// GGUFFile is the name of the file that target GGUF writes.
const GGUFFile = "model.gguf"

const noTokenizer = "there is no tokenizer beside the weights: llama.cpp takes token ids only"

// ggufTarget writes a result for llama.cpp: one GGUF file.
type ggufTarget struct {
	Result
	*llamacpp.Model
	layout Layout
	byName map[string]llamacpp.Tensor
}

// newGGUF lays r out for llama.cpp.
func newGGUF(r Result) (*ggufTarget, error) {
	model, err := llamacpp.Describe(r.Arch, modelName(r.Source.Dir), r.ggufDType)
	if err != nil {
		return nil, err
	}
	t := &ggufTarget{Result: r, Model: model, byName: make(map[string]llamacpp.Tensor, len(model.Tensors)), layout: Layout{Arch: r.Arch}}
	if err := t.addTensors(); err != nil {
		return nil, err
	}
	if how, ok := pooling(r.Source.Dir); ok && !r.Arch.Causal {
		t.Keys = append(t.Keys, gguf.Key{Name: t.Model.Arch + ".pooling_type", Value: how})
	}
	if err := t.addVocab(); err != nil {
		return nil, err
	}
	t.layout.Work, t.layout.Notes = bytesOf(t.layout.Specs), t.Model.Notes
	t.layout.LoadsIn = []string{"llama.cpp (" + t.Model.Arch + ")"}
	return t, nil
}

// modelName returns the name of the folder dir, even if dir is a relative path.
func modelName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return filepath.Base(abs)
	}
	return filepath.Base(dir)
}

// addTensors lists the tensors.
func (t *ggufTarget) addTensors() error {
	for _, x := range t.Tensors {
		if !x.DType.IsFloat() {
			return fmt.Errorf("tensor %s is %v in the checkpoint: only float tensors (F64, F32, F16, BF16) go into a GGUF file; convert the unquantised checkpoint", x.Name, x.DType)
		}
		t.byName[x.Name] = x
		t.layout.Specs = append(t.layout.Specs, x.Spec)
		if slices.ContainsFunc(x.Parts, func(p llamacpp.Part) bool { return p.Param >= 0 && t.Weights[p.Param].Changed() }) {
			t.layout.Computed++
		}
	}
	return nil
}

// Layout describes the file.
func (t *ggufTarget) Layout() *Layout { return &t.layout }

// pooling returns llama.cpp's number for the way in which a sentence-transformers model combines the embeddings of all
// tokens.
func pooling(dir string) (how uint32, ok bool) {
	for _, folder := range weights.Modules(dir) {
		var modes struct {
			Mean bool `json:"pooling_mode_mean_tokens"`
			CLS  bool `json:"pooling_mode_cls_token"`
		}
		data, err := file.Read(filepath.Join(dir, folder, "config.json"))
		if err != nil || json.Unmarshal(data, &modes) != nil || modes.Mean == modes.CLS {
			continue
		}
		if modes.Mean {
			return 1, true
		}
		return 2, true
	}
	return 0, false
}

// ggufDType returns the dtype in which a matrix of the source is written.
func (r Result) ggufDType(tensor string) checkpoints.DType {
	t, ok := r.Source.Tensor(tensor)
	switch {
	case r.DType != 0:
		return r.DType
	case !ok || t.DType == checkpoints.F64:
		return checkpoints.F32
	}
	return t.DType
}

// addVocab adds the tokenizer beside the weights. Without a tokenizer llama.cpp accepts token ids.
func (t *ggufTarget) addVocab() error {
	d, err := tokenizer.Describe(t.Source.Dir)
	if errors.Is(err, tokenizer.ErrNotFound) {
		t.Keys = append(t.Keys, llamacpp.NoVocab()...)
		t.Model.Notes = append(t.Model.Notes, noTokenizer)
		return nil
	}
	if err != nil {
		return err
	}
	if err := addSpecial(d, t.Source.Config); err != nil {
		return err
	}
	keys, notes, err := llamacpp.Vocab(d, t.Source.Arch.Vocab)
	t.Keys, t.Model.Notes = append(t.Keys, keys...), append(t.Model.Notes, notes...)
	return err
}

// addSpecial adds the special tokens of config.json that no tokenizer file names.
func addSpecial(d *tokenizer.Description, config []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(config, &keys); err != nil {
		return err
	}
	for _, role := range []string{"bos_token", "eos_token", "pad_token"} {
		var id int32
		var several []int32
		if json.Unmarshal(keys[role+"_id"], &several) == nil && len(several) > 0 {
			id = several[0]
		} else if keys[role+"_id"] == nil || string(keys[role+"_id"]) == "null" || json.Unmarshal(keys[role+"_id"], &id) != nil {
			continue
		}
		if _, named := d.Special[role]; !named && id >= 0 && int(id) < len(d.Tokens) {
			d.Special[role] = id
		}
	}
	return nil
}

// Write writes the file into dir.
func (t *ggufTarget) Write(ctx context.Context, dir string, r Reader, progress func(bytes int64)) error {
	var whole sync.Mutex
	write := func(ctx context.Context, s checkpoints.Spec, w io.Writer) error {
		for _, part := range t.byName[s.Name].Parts {
			if err := t.writePart(ctx, r, &whole, part, s.DType, w); err != nil {
				return err
			}
		}
		return nil
	}
	return gguf.Write(filepath.Join(dir, GGUFFile), t.Keys, t.layout.Specs, workers(), reporting(ctx, progress, write))
}

// writePart writes a part: row by row or, if it cannot be computed from rows of the source, from memory. whole is locked
// while a part is entirely in memory, so only one is at a time.
func (t *ggufTarget) writePart(
	ctx context.Context, r Reader, whole *sync.Mutex, part llamacpp.Part, dtype checkpoints.DType, w io.Writer,
) error {
	if part.Param < 0 {
		return weights.WriteFloats(w, part.Values, dtype)
	}
	if t.needsMemory(part) {
		whole.Lock()
		defer whole.Unlock()
		values, err := t.values(ctx, r, part)
		if err != nil {
			return err
		}
		return weights.WriteFloats(w, values, dtype)
	}
	weight := t.Weights[part.Param]
	source, _ := t.Source.Tensor(weight.From.Tensor)
	if err := r.Check(ctx, source, weight.Changed()); err != nil {
		return err
	}
	return writeRows(ctx, []rowPart{{from: source, spans: t.spans(part)}}, dtype, w)
}

// needsMemory reports whether a part cannot be computed from rows of the source.
func (t *ggufTarget) needsMemory(part llamacpp.Part) bool {
	w := t.Weights[part.Param]
	transposed := w.From.Transposed && len(w.From.Shape) == 2
	return transposed || w.From.Parts != nil || part.Offset != 0 || part.Gain != 0 || w.Kind == Computed
}

// spans returns the rows of the source that make up a part.
func (t *ggufTarget) spans(part llamacpp.Part) []span {
	w := t.Weights[part.Param]
	if part.Rows == nil && w.From.Rows == nil && !w.Changed() {
		return []span{{n: w.Size(), from: []int{0}}}
	}
	sources := make([][]int, w.Shape[0])
	for i := range sources {
		row := i
		if part.Rows != nil {
			row = part.Rows[i]
		}
		sources[i] = w.Rows(row)
	}
	return join(sources, w.Size()/w.Shape[0])
}

// values computes a part in memory.
func (t *ggufTarget) values(ctx context.Context, r Reader, part llamacpp.Part) ([]float32, error) {
	values, err := r.Read(ctx, part.Param)
	if err != nil {
		return nil, err
	}
	if part.Rows != nil {
		values = reorder(values, part.Rows)
	}
	for i := range values {
		values[i] += part.Offset
		if part.Gain != 0 {
			values[i] *= part.Gain
		}
	}
	return values, nil
}
