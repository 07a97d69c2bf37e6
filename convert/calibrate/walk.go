// Package calibrate runs a model that is being converted. A Walk runs it layer by layer, with the weights of one layer in memory: it
// measures what each layer's attention reads, and fits a layer with shared heads to the output of the one that it replaces. Together
// fits all layers at once, with both models in memory.
//
// The states of a batch are the rows [tokens, dim] that a layer reads and leaves, the residual stream.
package calibrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"gqa/configs"
	"gqa/convert/merge"
	"gqa/convert/offload"
	"gqa/internal/cpu/blas"
	"gqa/internal/data"
	"gqa/internal/device/cpu"
	"gqa/internal/engine/spago"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// Data is text to run a model on, as token ids.
type Data struct {
	Name      string
	IDs       []int32
	Tokens    int            // how many of them to take, in windows drawn from all
	Seed      uint64         // of the draw
	Objective data.Objective // what the model reads of a window; nil: all of it
	Window    int            // ids of a window; 0: the model's context, 2048 at most
}

// candidates times Data.Tokens are read of a text, so that windows can be drawn from it.
const candidates = 16

// Options say how much of a text to take.
type Options struct {
	Tokens, Steps int    // of Data, and of Together
	Seed          uint64 // of Data
	TextKey       string // of JSON records; empty: data.TextKey
}

// Load reads the text name, a file in any format that training reads or a part of the sample's corpus (sample:train), for the
// model a in the folder dir: enough for o.Tokens to be drawn from it, and for o.Steps of Together.
func Load(ctx context.Context, name, dir string, a *configs.Arch, o Options) (*Data, error) {
	d, err := data.Load(ctx, name, dir, a, data.Options{
		Seed: o.Seed, MaxTokens: enough(o.Tokens, o.Steps), TextKey: o.TextKey,
	})
	if err != nil {
		return nil, err
	}
	return &Data{Name: d.Name, IDs: d.IDs, Tokens: o.Tokens, Seed: o.Seed, Objective: d.Objective, Window: d.Window}, nil
}

// enough returns how many tokens to read of a text.
func enough(tokens, steps int) int {
	if steps == 0 {
		return candidates * tokens
	}
	return max(candidates*tokens, (steps+mostHeld)*batchTokens)
}

// batchTokens is about the number of tokens that go through a layer at once.
var batchTokens = 2048

// heldBytes is how many bytes of states are kept in memory; more go to a temporary file.
const heldBytes = 2 << 30

// Walk takes the windows of Data through a stack of a model, one layer after the other.
type Walk struct {
	src               *weights.Source
	arch              *configs.Arch   // of the stack
	params, converted []configs.Param // of the original and of what it becomes
	engine            *spago.Engine
	self, cross       recorder                   // of the self-attention, or the one in work, and of the original's cross-attention
	teacher, student  *model.Model[spago.Tensor] // these two, with the weights of the layer in work
	follow            bool                       // whether the student reads what it wrote itself, or what the teacher did
	weights           named                      // of that layer, as they were
	moved             Weights                    // tables of position biases in the converted model's order of heads
	batches           []ops.Batch
	states            *offload.Store
	seed              uint64
	at                attention     // in work
	done              int           // layers that the original was taken through
	encoder           *Walk         // of the stack whose output this one's layers read; nil: there is none
	memoryMoment      *merge.Moment // of that output; nil: it is not there yet
}

// attention is one of a layer's two.
type attention struct {
	q, k, v, o configs.Role
	cross      bool // keys and values read the encoder's output
}

var (
	selfAttention  = attention{configs.Q, configs.K, configs.V, configs.O, false}
	crossAttention = attention{configs.CrossQ, configs.CrossK, configs.CrossV, configs.CrossO, true}
)

// New embeds windows of d for the model src. States that do not fit in memory go to a file in the folder dir. converted is
// the architecture that src is converted to; with follow, the walk takes its model through the layers too.
func New(ctx context.Context, src *weights.Source, converted *configs.Arch, d Data, dir string, follow bool) (*Walk, error) {
	batches, err := d.batches(src.Arch)
	if err != nil {
		return nil, err
	}
	w, err := newStack(ctx, src, src.Arch, converted, batches, dir)
	if err != nil {
		return nil, err
	}
	w.seed, w.follow = d.Seed, follow
	outside, err := w.load(ctx, -1)
	if err != nil {
		return nil, err
	}
	w.begin(converted, outside)
	if err := w.addEncoder(ctx, converted, outside, dir); err != nil {
		return nil, err
	}
	for s := w; s != nil; s = s.encoder {
		if err := s.embed(ctx); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// newStack returns a walk through the stack arch of src, which becomes converted.
func newStack(ctx context.Context, src *weights.Source, arch, converted *configs.Arch, batches []ops.Batch, dir string) (w *Walk, err error) {
	engine := spago.New(cpu.New())
	engine.Until(ctx)
	w = &Walk{src: src, arch: arch, batches: batches, engine: engine, states: offload.New(dir, heldBytes), moved: Weights{}}
	engine.Observe(func(x, weight, y spago.Tensor) {
		w.self.record(engine, x, weight, y)
		w.cross.record(engine, x, weight, y)
	})
	if w.params, err = arch.Params(); err != nil {
		return nil, err
	}
	w.converted, err = converted.Params()
	return w, err
}

// begin makes the models of the weights outside the layers.
func (w *Walk) begin(converted *configs.Arch, outside named) {
	constant := outside.constant(w.engine)
	w.teacher, w.student = model.New(w.arch, constant), model.New(converted, constant)
}

// Close removes what was kept.
func (w *Walk) Close() error {
	if w == nil {
		return nil
	}
	return errors.Join(w.states.Close(), w.encoder.Close())
}

// windows returns how many windows are drawn, and their length in tokens.
func (d Data) windows(a *configs.Arch) (n, length int) {
	if length = d.Window; length == 0 {
		length = min(a.Context, 2048, max(d.Tokens, 2))
	}
	return min(max(d.Tokens/length, 1), len(d.IDs)/length), length
}

// Used returns how many tokens a walk takes.
func (d Data) Used(a *configs.Arch) int {
	n, length := d.windows(a)
	return n * length
}

// Refining returns the text that Together takes for so many steps: another batch in each, as far as there is text.
func (d Data) Refining(steps int) Data {
	d.Tokens = min((steps+mostHeld)*batchTokens, len(d.IDs))
	return d
}

// Check returns an error if there are too few tokens for a walk through a.
func (d Data) Check(a *configs.Arch) error {
	_, err := d.batches(a)
	return err
}

// objective returns what the model a reads of a window.
func (d Data) objective(a *configs.Arch) (data.Objective, error) {
	switch {
	case d.Objective != nil:
		return d.Objective, nil
	case a.EncoderLayers > 0:
		return nil, fmt.Errorf("calibration: family %s has an encoder and a decoder, and nothing says what of the text each reads", a.Family.Name)
	}
	return data.NextToken{}, nil
}

// batches draws windows from the data.
func (d Data) batches(a *configs.Arch) ([]ops.Batch, error) {
	of, err := d.objective(a)
	if err != nil {
		return nil, err
	}
	n, length := d.windows(a)
	sampler, err := data.NewSampler(d.IDs, length, d.Seed)
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	per := max(1, min(batchTokens/length, n/2)) // two batches at least: one may be held out
	var all []ops.Batch
	windows := sampler.Batch(0, n)
	for at := 0; at < n; at += per {
		b, _ := of.Batch(windows[at:min(at+per, n)])
		all = append(all, b)
	}
	return all, nil
}

// named holds weights by the forward pass's names.
type named struct {
	values map[string][]float32
	shapes map[string][]int
}

func newNamed() named { return named{map[string][]float32{}, map[string][]int{}} }

// load reads the weights of a layer; -1 is those outside the layers.
func (w *Walk) load(ctx context.Context, layer int) (named, error) {
	n := newNamed()
	for _, p := range w.params {
		if p.Name != configs.ParamName(p.Role, layer, p.Bias) {
			continue
		}
		values, err := w.src.Read(ctx, p)
		if err != nil {
			return n, err
		}
		n.values[p.Name], n.shapes[p.Name] = values, p.Shape
	}
	return n, nil
}

// constant gives the weights as constants of an engine.
func (n named) constant(e *spago.Engine) func(name string) (spago.Tensor, bool) {
	return func(name string) (spago.Tensor, bool) {
		values, ok := n.values[name]
		if !ok {
			return nil, false
		}
		rows := n.shapes[name][0]
		return e.Constant(values, rows, len(values)/rows), true
	}
}

// or gives those that are fitted, and constants for the rest.
func (n named) or(e *spago.Engine, fitted map[string]spago.Tensor) func(name string) (spago.Tensor, bool) {
	constant := n.constant(e)
	return func(name string) (spago.Tensor, bool) {
		if t, ok := fitted[name]; ok {
			return t, true
		}
		return constant(name)
	}
}

// embed computes what the first layer reads.
func (w *Walk) embed(ctx context.Context) error {
	for i, b := range w.batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := append([]float32(nil), w.engine.Values(w.teacher.Start(w.engine, b))...)
		w.engine.Reset()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.put(teacherState, i, x); err != nil {
			return err
		}
		if !w.follow {
			continue
		}
		if err := w.put(studentState, i, append([]float32(nil), x...)); err != nil {
			return err
		}
	}
	return nil
}

// kind names what is kept of each batch.
type kind string

const (
	teacherState  kind = "teacher"        // what the next layer of the original reads
	studentState  kind = "student"        // … and of the converted model
	target        kind = "target"         // what the attention in work should give
	input         kind = "input"          // what it reads in the converted model
	crossTarget   kind = "cross target"   // what the cross-attention should give, or leave of states
	crossInput    kind = "cross input"    // what its queries read in the original
	teacherMemory kind = "teacher memory" // the encoder's output in the original
	studentMemory kind = "student memory" // … and in the converted model
)

func (w *Walk) put(k kind, batch int, values []float32) error {
	if !blas.Finite(values) {
		return fmt.Errorf("activations (%s, batch %d of the calibration text) are not finite numbers: they or weights are too large for float32", k, batch)
	}
	return w.states.Put(fmt.Sprint(k, batch), values)
}

func (w *Walk) get(k kind, batch int) ([]float32, error) {
	values, ok, err := w.states.Get(fmt.Sprint(k, batch))
	if err == nil && !ok {
		err = fmt.Errorf("no %s of batch %d is kept", k, batch)
	}
	return values, err
}

// layer reads a layer's weights and gives them to the teacher.
func (w *Walk) layer(ctx context.Context, layer int) error {
	weights, err := w.load(ctx, layer)
	if err != nil {
		return err
	}
	constant := weights.constant(w.engine)
	w.teacher.SetLayer(layer, func(name string) (spago.Tensor, bool) {
		t, ok := constant(name)
		w.self.watch(selfAttention, layer, name, t)
		w.cross.watch(crossAttention, layer, name, t)
		return t, ok
	})
	maps.Copy(weights.values, w.moved)
	w.weights = weights
	return nil
}

// each calls f for every batch with what is kept of it under k.
func (w *Walk) each(ctx context.Context, k kind, f func(i int, b ops.Batch, x []float32) error) error {
	for i, b := range w.batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := w.get(k, i)
		if err != nil {
			return err
		}
		if err := cmp.Or(f(i, b, x), ctx.Err()); err != nil {
			return cmp.Or(ctx.Err(), err) // what f saw of a pass that ended early means nothing
		}
		w.engine.Reset()
	}
	return nil
}

// Layer takes the original through a layer, keeps what the converted model's attention reads there and should give, and
// returns the moment of what that reads. Where the converted model is followed, its attention should also make good the error
// that the layers before it left in the states.
func (w *Walk) Layer(ctx context.Context, layer int) (*merge.Moment, error) {
	if err := w.runEncoder(ctx); err != nil {
		return nil, err
	}
	if err := w.layer(ctx, layer); err != nil {
		return nil, err
	}
	var m moment
	w.at = selfAttention
	err := w.each(ctx, teacherState, func(i int, b ops.Batch, x []float32) error {
		y, err := w.teach(layer, i, b, x)
		if err != nil {
			return err
		}
		read, wanted := w.self.takeRead(), w.self.takeWritten()
		if err := w.keepCross(i, x, wanted); err != nil {
			return err
		}
		if err := w.followLayer(layer, i, b, x, read, wanted); err != nil {
			return err
		}
		m.add(unpadded(read, b), len(read)/len(b.IDs))
		copy(x, w.engine.Values(y))
		return cmp.Or(w.put(teacherState, i, x), w.put(input, i, read), w.put(target, i, wanted))
	})
	w.done = layer + 1
	return m.result(), err
}

// teach returns what the original's layer makes of the states x.
func (w *Walk) teach(layer, i int, b ops.Batch, x []float32) (spago.Tensor, error) {
	teacher, err := w.withMemory(w.teacher, teacherMemory, i)
	if err != nil {
		return nil, err
	}
	return teacher.Layer(layer, w.engine, w.rows(x, b), b), nil
}

// followLayer changes what a layer's attention read and should give to what it reads and should give in the converted model, if
// that is followed. x are the original's states before the layer.
func (w *Walk) followLayer(layer, i int, b ops.Batch, x, read, wanted []float32) error {
	if !w.follow {
		return nil
	}
	s, err := w.get(studentState, i)
	if err != nil {
		return err
	}
	copy(read, w.engine.Values(w.teacher.Read(layer, w.engine, w.rows(s, b))))
	if w.corrects() {
		blas.Axpy(1/float32(w.arch.ResidualScale), x, wanted)
		blas.Axpy(-1/float32(w.arch.ResidualScale), s, wanted)
	}
	return nil
}

// corrects reports whether what attention gives is added to the states as it is.
func (w *Walk) corrects() bool {
	return !w.arch.Has(configs.AttnOutNorm) && w.arch.Residual != configs.Normed
}

// Advance takes the converted model through a layer with the weights that were fitted.
func (w *Walk) Advance(ctx context.Context, layer int, changed Weights) error {
	w.attach(layer, changed)
	return w.each(ctx, studentState, func(i int, b ops.Batch, x []float32) error {
		student, err := w.withMemory(w.student, studentMemory, i)
		if err != nil {
			return err
		}
		copy(x, w.engine.Values(student.Layer(layer, w.engine, w.rows(x, b), b)))
		return w.put(studentState, i, x)
	})
}

// rows returns values as one row per token of the batch.
func (w *Walk) rows(values []float32, b ops.Batch) spago.Tensor {
	return w.engine.Constant(values, len(b.IDs), len(values)/len(b.IDs))
}

// unpadded returns the rows of a batch that are no padding.
func unpadded(values []float32, b ops.Batch) []float32 {
	if b.Lens == nil {
		return values
	}
	var all []float32
	size := len(values) / b.Seqs
	for i, n := range b.Lens {
		all = append(all, values[i*size:][:n*size/b.Len]...)
	}
	return all
}
