// Package calibrate runs a model that is being converted. A Walk runs it layer by layer, with the weights of one layer
// in memory: it measures the input of each layer's attention, and fits a layer with shared heads to the output of the
// one that it replaces. Together fits all layers at once, with both models in memory.
//
// The states of a batch are the rows [tokens, dim] of the residual stream before or after a layer.
package calibrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"gqa/configs"
	"gqa/convert/merge"
	"gqa/internal/cpu/pool"
	"gqa/internal/data"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/weights"
)

// Data is text to run a model on, as token IDs.
type Data struct {
	Name      string
	IDs       []int32
	Tokens    int            // number of IDs to use, in windows drawn from all of them
	Seed      uint64         // random seed for drawing
	Objective data.Objective // input of the model for a window; nil: the whole window
	Window    int            // IDs per window; 0: the model's context, but at most 2048
}

// candidates times Data.Tokens tokens are read from a text to draw windows from.
const candidates = 16

// Options configure the reading of a text.
type Options struct {
	Tokens, Steps int    // Data.Tokens, and the number of steps of Together
	Seed          uint64 // Data.Seed
	TextKey       string // key of the text in JSON records; empty: data.TextKey
}

// Load reads the text name, a file in any training format or a split of the sample's corpus (sample:train), for the
// model a in the folder dir: enough to draw o.Tokens from it, and for o.Steps of Together.
func Load(ctx context.Context, name, dir string, a *configs.Arch, o Options) (*Data, error) {
	d, err := data.Load(ctx, name, dir, a, data.Options{
		Seed: o.Seed, MaxTokens: enough(o.Tokens, o.Steps), TextKey: o.TextKey,
	})
	if err != nil {
		return nil, err
	}
	return &Data{Name: d.Name, IDs: d.IDs, Tokens: o.Tokens, Seed: o.Seed, Objective: d.Objective, Window: d.Window}, nil
}

// enough returns the number of tokens to read from a text.
func enough(tokens, steps int) int {
	if steps == 0 {
		return candidates * tokens
	}
	return max(candidates*tokens, (steps+mostHeld)*batchTokens)
}

// batchTokens is the approximate number of tokens that go through a layer at once.
var batchTokens = 2048

// heldBytes is the maximum size of the states kept in the host's memory; the rest goes to a temporary file.
const heldBytes = 2 << 30

// Walk runs the windows of Data through a model's stack, layer by layer.
type Walk struct {
	src               *weights.Source
	arch              *configs.Arch   // of the stack
	params, converted []configs.Param // of the original and of the converted model
	engine            *spago.Engine
	self, cross       recorder                   // for the self-attention or the current attention, and for the original's cross-attention
	teacher, student  *model.Model[spago.Tensor] // the two models, with the weights of the current layer
	follow            bool                       // whether the student's input is its own output or the teacher's
	keeps             bool                       // whether the states before the last layer are kept
	outside           []spago.Tensor             // constants of both: the weights outside the layers
	taught, learnt    []spago.Tensor             // of the current layer in the teacher and in the student
	weights           named                      // original weights of that layer
	moved             Weights                    // tables of position biases in the converted model's order of heads
	batches           []ops.Batch
	states            *states
	seed              uint64
	at                attention     // current attention
	done              int           // number of layers that the original has run
	encoder           *Walk         // walk through the encoder, whose output this stack's layers read; nil if there is none
	memoryMoment      *merge.Moment // of the encoder's output; nil until it is known
}

// attention is one of a layer's two attentions.
type attention struct {
	q, k, v, o configs.Role
	cross      bool // keys and values come from the encoder's output
}

var (
	selfAttention  = attention{configs.Q, configs.K, configs.V, configs.O, false}
	crossAttention = attention{configs.CrossQ, configs.CrossK, configs.CrossV, configs.CrossO, true}
)

// New embeds windows of d for the model src, which runs on dev. States that do not fit in memory go to a file in the folder dir. converted
// is the architecture that src is converted to. With follow, the walk runs the converted model through the layers, too.
func New(ctx context.Context, dev device.Device, src *weights.Source, converted *configs.Arch, d Data, dir string, follow bool) (*Walk, error) {
	batches, err := d.batches(src.Arch)
	if err != nil {
		return nil, err
	}
	w, err := newStack(ctx, dev, src, src.Arch, converted, batches, dir)
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
func newStack(ctx context.Context, dev device.Device, src *weights.Source, arch, converted *configs.Arch, batches []ops.Batch, dir string) (w *Walk, err error) {
	engine := spago.New(dev)
	engine.Until(ctx)
	w = &Walk{src: src, arch: arch, batches: batches, engine: engine, states: newStates(engine, dir), moved: Weights{}}
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

// begin builds the models from the weights outside the layers.
func (w *Walk) begin(converted *configs.Arch, outside named) {
	constant := outside.constant(w.engine, &w.outside)
	w.teacher, w.student = model.New(w.arch, constant), model.New(converted, constant)
}

// Close removes the stored states.
func (w *Walk) Close() error {
	if w == nil {
		return nil
	}
	w.engine.Close()
	w.self.free(w.engine.Device())
	w.cross.free(w.engine.Device())
	for _, made := range []*[]spago.Tensor{&w.outside, &w.taught, &w.learnt} {
		w.unload(made)
	}
	return errors.Join(w.states.close(), w.encoder.Close())
}

// unload frees the memory of constants.
func (w *Walk) unload(made *[]spago.Tensor) {
	for _, t := range *made {
		w.engine.Unload(t)
	}
	*made = nil
}

// windows returns the number of windows to draw and their length in tokens.
func (d Data) windows(a *configs.Arch) (n, length int) {
	if length = d.Window; length == 0 {
		length = min(a.Context, 2048, max(d.Tokens, 2))
	}
	return min(max(d.Tokens/length, 1), len(d.IDs)/length), length
}

// Used returns the number of tokens that a walk uses.
func (d Data) Used(a *configs.Arch) int {
	n, length := d.windows(a)
	return n * length
}

// Refining returns the text that Together uses for the given number of steps: a different batch for each step, as far
// as there is text.
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
		return nil, fmt.Errorf("calibration: family %s has an encoder and a decoder, and their inputs from the text are not specified", a.Family.Name)
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
	per := max(1, min(batchTokens/length, n/2)) // at least two batches, so that one can be held out
	var all []ops.Batch
	windows := sampler.Batch(0, n)
	for at := 0; at < n; at += per {
		b, _ := of.Batch(windows[at:min(at+per, n)])
		all = append(all, b)
	}
	return all, nil
}

// named holds weights keyed by the forward pass's names.
type named struct {
	values map[string][]float32
	shapes map[string][]int
}

func newNamed() named { return named{map[string][]float32{}, map[string][]int{}} }

// load reads the weights of a layer, several at a time; -1 means those outside the layers.
func (w *Walk) load(ctx context.Context, layer int) (named, error) {
	var params []configs.Param
	for _, p := range w.params {
		if p.Name == configs.ParamName(p.Role, layer, p.Bias) {
			params = append(params, p)
		}
	}
	values, errs := make([][]float32, len(params)), make([]error, len(params))
	pool.For(len(params), 1, func(i, _ int) { values[i], errs[i] = w.src.Read(ctx, params[i]) })
	n := newNamed()
	for i, p := range params {
		n.values[p.Name], n.shapes[p.Name] = values[i], p.Shape
	}
	return n, cmp.Or(errs...)
}

// constant returns a lookup of the weights as an engine's constants, which it adds to made.
func (n named) constant(e *spago.Engine, made *[]spago.Tensor) func(name string) (spago.Tensor, bool) {
	return func(name string) (spago.Tensor, bool) {
		values, ok := n.values[name]
		if !ok {
			return nil, false
		}
		rows := n.shapes[name][0]
		t := e.Constant(values, rows, len(values)/rows)
		*made = append(*made, t)
		return t, true
	}
}

// or returns a lookup of fitted weights, with constants for all others.
func (n named) or(e *spago.Engine, made *[]spago.Tensor, fitted map[string]spago.Tensor) func(name string) (spago.Tensor, bool) {
	constant := n.constant(e, made)
	return func(name string) (spago.Tensor, bool) {
		if t, ok := fitted[name]; ok {
			return t, true
		}
		return constant(name)
	}
}

// embed computes the input of the first layer.
func (w *Walk) embed(ctx context.Context) error {
	for i, b := range w.batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := w.teacher.Start(w.engine, b)
		err := w.states.put(teacherState, i, w.engine.Copied(x))
		if w.follow {
			err = cmp.Or(err, w.states.put(studentState, i, w.engine.Copied(x)))
		}
		if err = cmp.Or(err, ctx.Err(), w.engine.Device().Err()); err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		w.engine.Reset()
	}
	return cmp.Or(ctx.Err(), w.states.verify())
}

// layer reads a layer's weights and gives them to the teacher.
func (w *Walk) layer(ctx context.Context, layer int) error {
	weights, err := w.load(ctx, layer)
	if err != nil {
		return err
	}
	w.unload(&w.taught)
	constant := weights.constant(w.engine, &w.taught)
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

// each calls f for every batch with its stored rows of kind k, which f must not change.
func (w *Walk) each(ctx context.Context, k kind, f func(i int, b ops.Batch, x device.Buffer) error) error {
	for i, b := range w.batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := w.states.get(k, i)
		if err != nil {
			return err
		}
		err = f(i, b, x)
		if err = cmp.Or(err, ctx.Err(), w.engine.Device().Err()); err != nil {
			return cmp.Or(ctx.Err(), err) // an error of f after a pass was cut short is meaningless
		}
		w.engine.Reset()
	}
	return cmp.Or(ctx.Err(), w.states.verify())
}

// Layer runs the original through a layer, stores the input and target output of the converted model's attention, and
// returns the moment of that input. If the walk follows the converted model, the target also corrects the error in the
// states caused by the layers before.
func (w *Walk) Layer(ctx context.Context, layer int) (*merge.Moment, error) {
	if err := w.runEncoder(ctx); err != nil {
		return nil, err
	}
	if err := w.layer(ctx, layer); err != nil {
		return nil, err
	}
	m := moment{device: w.engine.Device()}
	w.at = selfAttention
	err := w.each(ctx, teacherState, func(i int, b ops.Batch, x device.Buffer) error {
		y, err := w.teach(layer, i, b, x)
		if err != nil {
			return err
		}
		read, wanted := w.self.takeRead(), w.self.takeWritten()
		if err := cmp.Or(w.keepCross(i, x, wanted), w.keepBefore(i, x)); err != nil {
			return err
		}
		if read, err = w.followLayer(layer, i, b, x, read, wanted); err != nil {
			return err
		}
		m.add(read, b)
		return cmp.Or(w.states.put(teacherState, i, w.engine.Copied(y)), w.states.put(input, i, read), w.states.put(target, i, wanted))
	})
	w.done = layer + 1
	return m.result(), err
}

// teach returns the output of the original's layer for the states x.
func (w *Walk) teach(layer, i int, b ops.Batch, x device.Buffer) (spago.Tensor, error) {
	teacher, err := w.withMemory(w.teacher, teacherMemory, i)
	if err != nil {
		return nil, err
	}
	return w.run(teacher, layer, b, x), nil
}

// run returns the output of a model's layer for the states x. Products may round their factors: what is measured are averages over many
// tokens.
func (w *Walk) run(m *model.Model[spago.Tensor], layer int, b ops.Batch, x device.Buffer) (y spago.Tensor) {
	device.Rounding(w.engine.Device(), func() { y = m.Layer(layer, w.engine, w.rows(x, b), b) })
	return y
}

// followLayer returns the input of a layer's attention in the converted model in place of read, and corrects the target output,
// if the walk follows that model. x are the original's states before the layer.
func (w *Walk) followLayer(layer, i int, b ops.Batch, x, read, wanted device.Buffer) (device.Buffer, error) {
	if !w.follow {
		return read, nil
	}
	s, err := w.states.get(studentState, i)
	if err != nil {
		return read, err
	}
	d := w.engine.Device()
	d.Free(read)
	read = w.engine.Copied(w.teacher.Read(layer, w.engine, w.rows(s, b)))
	if w.corrects() {
		d.Axpy(1/float32(w.arch.ResidualScale), x, wanted)
		d.Axpy(-1/float32(w.arch.ResidualScale), s, wanted)
	}
	return read, nil
}

// corrects reports whether the output of attention is added to the states unchanged.
func (w *Walk) corrects() bool {
	return !w.arch.Has(configs.AttnOutNorm) && w.arch.Residual != configs.Normed
}

// Advance runs the converted model through a layer with the fitted weights.
func (w *Walk) Advance(ctx context.Context, layer int, changed Weights) error {
	w.attach(layer, changed)
	return w.each(ctx, studentState, func(i int, b ops.Batch, x device.Buffer) error {
		student, err := w.withMemory(w.student, studentMemory, i)
		if err != nil {
			return err
		}
		return w.states.put(studentState, i, w.engine.Copied(w.run(student, layer, b, x)))
	})
}

// rows returns stored rows, one per token of the batch, as a tensor.
func (w *Walk) rows(rows device.Buffer, b ops.Batch) spago.Tensor {
	return w.engine.Borrow(rows, len(b.IDs), rows.Len()/len(b.IDs))
}
