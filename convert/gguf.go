package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"gqa/checkpoints"
	"gqa/checkpoints/gguf"
	"gqa/configs"
	"gqa/convert/llamacpp"
	"gqa/internal/file"
	"gqa/internal/tokenizer"
	"gqa/internal/weights"
)

// ggufFile is the one file of a conversion to llama.cpp.
const ggufFile = "model.gguf"

const noTokenizer = "there is no tokenizer beside the weights: llama.cpp takes token ids only"

// llamaFile is the GGUF file that a plan writes: how llama.cpp holds the result, of whose weights each is one of the source's.
type llamaFile struct {
	*llamacpp.Model
	byName   map[string]llamacpp.Tensor
	from, to []configs.Param // the weights of the source, and of the result, in one order
	changed  map[string]bool // of those that a merge computes, by name
}

// planGGUF lays the result out for llama.cpp.
func (p *Plan) planGGUF() error {
	name := filepath.Base(p.Source.Dir)
	if abs, err := filepath.Abs(p.Source.Dir); err == nil {
		name = filepath.Base(abs)
	}
	model, err := llamacpp.Describe(p.Arch, name, p.ggufDType)
	if err != nil {
		return err
	}
	if err := p.planPooled(); err != nil {
		return err
	}
	f := &llamaFile{Model: model, byName: make(map[string]llamacpp.Tensor, len(model.Tensors)), changed: p.changed}
	if f.from, err = p.Source.Arch.Params(); err != nil {
		return err
	}
	if f.to, err = p.Arch.Params(); err != nil {
		return err
	}
	for _, t := range model.Tensors {
		f.byName[t.Name] = t
		if !t.DType.IsFloat() {
			return fmt.Errorf("tensor %s is %v in the checkpoint: only float tensors (F64, F32, F16, BF16) go into a GGUF file; convert the unquantised checkpoint", t.Name, t.DType)
		}
		p.Specs = append(p.Specs, t.Spec)
	}
	if how, ok := pooling(p.Source.Dir); ok && !p.Arch.Causal {
		f.Keys = append(f.Keys, gguf.Key{Name: f.Arch + ".pooling_type", Value: how})
	}
	p.gguf = f
	return f.addVocab(p.Source)
}

// pooling is llama.cpp's number for how a sentence-transformers model makes one embedding of all tokens'.
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

// ggufDType is the dtype in which a matrix of the source is written.
func (p *Plan) ggufDType(tensor string) checkpoints.DType {
	t, ok := p.Source.Tensor(tensor)
	switch {
	case p.DType != 0:
		return p.DType
	case !ok || t.DType == checkpoints.F64:
		return checkpoints.F32
	}
	return t.DType
}

// addVocab adds the tokenizer that lies beside the weights. Without one llama.cpp takes token ids.
func (f *llamaFile) addVocab(src *weights.Source) error {
	d, err := tokenizer.Describe(src.Dir)
	if errors.Is(err, tokenizer.ErrNotFound) {
		f.Keys = append(f.Keys, llamacpp.NoVocab()...)
		f.Notes = append(f.Notes, noTokenizer)
		return nil
	}
	if err != nil {
		return err
	}
	if err := addSpecial(d, src.Config); err != nil {
		return err
	}
	keys, notes, err := llamacpp.Vocab(d, src.Arch.Vocab)
	f.Keys, f.Notes = append(f.Keys, keys...), append(f.Notes, notes...)
	return err
}

// addSpecial takes from config.json the special tokens that no file of the tokenizer names.
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

// Notes are sentences on what a user may not expect: what the method did without, and where what loads the result computes
// other than the source's class.
func (p *Plan) Notes() []string {
	var notes []string
	if p.Method == Calibrated && p.Calibration == nil && len(p.modules()) > 0 {
		notes = append(notes, "no calibration: heads were compared by their weights alone; text like that which the model was trained on does far better")
	}
	switch {
	case p.gguf != nil:
		notes = append(notes, p.gguf.Notes...)
	case p.Target != Expanded && p.Arch.LayerKVHeads != nil:
		notes = append(notes, "layers with different numbers of KV heads load in this toolkit only; write --target "+p.elsewhere()+" for others")
	}
	return notes
}

// elsewhere are the targets that hold KV heads layer by layer for others than this toolkit.
func (p *Plan) elsewhere() string {
	o := p.Options
	o.Target = GGUF
	if _, err := NewPlan(p.Source, o); err != nil {
		return string(Expanded)
	}
	return string(GGUF) + " or " + string(Expanded)
}

// pooled counts the tensors that hold pooled heads.
func (f *llamaFile) pooled(p *Plan) (n int) {
	for _, t := range f.Tensors {
		if slices.ContainsFunc(t.Parts, func(part llamacpp.Part) bool { return part.Param >= 0 && f.computed(part.Param) }) {
			n++
		}
	}
	return n
}

// computed says whether a weight of the result is another than the source's.
func (f *llamaFile) computed(param int) bool {
	return f.from[param].KVHeads != f.to[param].KVHeads || f.changed[f.to[param].Name]
}

// writeGGUF writes the file into dir.
func (p *Plan) writeGGUF(ctx context.Context, dir string, progress func(bytes int64)) error {
	write := func(ctx context.Context, s checkpoints.Spec, w io.Writer) error {
		for _, part := range p.gguf.byName[s.Name].Parts {
			if err := p.gguf.writePart(ctx, p, part, s.DType, w); err != nil {
				return err
			}
		}
		return nil
	}
	return gguf.Write(filepath.Join(dir, ggufFile), p.gguf.Keys, p.Specs, workers(), reporting(ctx, progress, write))
}

// writePart streams a part from the source, or takes it whole into memory where rows are not enough to go by.
func (f *llamaFile) writePart(ctx context.Context, p *Plan, part llamacpp.Part, dtype checkpoints.DType, w io.Writer) error {
	if part.Param < 0 {
		return weights.WriteFloats(w, part.Values, dtype)
	}
	from := f.from[part.Param]
	turned := from.Transposed && len(from.Shape) == 2
	if turned || from.Parts != nil || part.Offset != 0 || part.Gain != 0 || f.computed(part.Param) && (p.Method == Random || p.Merges()) {
		values, err := f.whole(ctx, p, part)
		if err != nil {
			return err
		}
		return weights.WriteFloats(w, values, dtype)
	}
	held := pooledBuffers.Get().(*buffers)
	defer pooledBuffers.Put(held)
	source, _ := p.Source.Tensor(from.Tensor)
	if err := p.vet(ctx, source, f.computed(part.Param)); err != nil {
		return err
	}
	out := &stream{ctx: ctx, src: source, dtype: dtype, w: w, buffers: held}
	return out.write(f.spans(p, part))
}

// spans says which rows of the source a part is made of.
func (f *llamaFile) spans(p *Plan, part llamacpp.Part) []span {
	from, to := f.from[part.Param], f.to[part.Param]
	if part.Rows == nil && from.Rows == nil && !f.computed(part.Param) {
		return []span{{n: to.Size(), from: []int{0}}}
	}
	sources := make([][]int, to.Shape[0])
	for i := range sources {
		row := i
		if part.Rows != nil {
			row = part.Rows[i]
		}
		sources[i] = p.members(from, to.KVHeads, to.KVHeads, row)
	}
	return join(sources, to.Size()/to.Shape[0])
}

// whole computes a part in memory.
func (f *llamaFile) whole(ctx context.Context, p *Plan, part llamacpp.Part) ([]float32, error) {
	p.whole.Lock()
	defer p.whole.Unlock()
	values, err := f.values(ctx, p, part.Param)
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

// values computes a weight of the result as the forward pass reads it.
func (f *llamaFile) values(ctx context.Context, p *Plan, param int) ([]float32, error) {
	to := f.to[param]
	if f.changed[to.Name] {
		return p.mergedWeight(to)
	}
	values, err := p.Source.Read(ctx, f.from[param])
	if err != nil {
		return nil, err
	}
	if from := f.from[param]; from.KVHeads != to.KVHeads {
		values = p.poolHeads(values, to, from.KVHeads, to.KVHeads)
	}
	return values, nil
}

// reorder returns values with row i taken from row rows[i].
func reorder(values []float32, rows []int) []float32 {
	size := len(values) / len(rows)
	result := make([]float32, 0, len(values))
	for _, r := range rows {
		result = append(result, values[r*size:(r+1)*size]...)
	}
	return result
}
