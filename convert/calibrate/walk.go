// Package calibrate runs a model that is being converted, layer by layer: it measures what each layer's attention reads, and
// fits a layer with shared heads to the output of the one that it replaces. The weights of one layer are in memory at a time.
package calibrate

import (
	"context"
	"errors"
	"fmt"

	"gqa/configs"
	"gqa/convert/merge"
	"gqa/convert/spill"
	"gqa/internal/engine/spago"
	"gqa/internal/kernels"
	"gqa/internal/model"
	"gqa/internal/ops"
	"gqa/internal/text"
	"gqa/internal/weights"
)

// Data is the text that a model is run on.
type Data struct {
	Name   string
	IDs    []int32
	Tokens int    // how many of them to take, in windows drawn from all
	Seed   uint64 // of the draw
}

// batchTokens is about how many tokens go through a layer at once.
var batchTokens = 2048

// heldBytes is how much of the hidden states is kept in memory; more goes to a temporary file.
const heldBytes = 2 << 30

// Walk takes the windows of Data through a model, one layer after the other.
type Walk struct {
	src               *weights.Source
	params, converted []configs.Param // of the original and of what it becomes
	engine            *tap
	teacher, student  *model.Model[spago.Tensor] // these two, with the weights of the layer in work
	follow            bool                       // whether the student reads what it wrote itself, or what the teacher did
	weights           named                      // of that layer, as they were
	batches           []ops.Batch
	states            *spill.Store
	seed              uint64
}

// New embeds windows of d for the model src. Hidden states that do not fit in memory go to a file in the folder dir. converted
// is the architecture that src is converted to; with follow, the model of its layers is walked along.
func New(ctx context.Context, src *weights.Source, converted *configs.Arch, d Data, dir string, follow bool) (*Walk, error) {
	w := &Walk{src: src, engine: &tap{Engine: spago.New()}, states: spill.New(dir, heldBytes), follow: follow, seed: d.Seed}
	var err error
	if w.params, err = src.Arch.Params(); err != nil {
		return nil, err
	}
	if w.converted, err = converted.Params(); err != nil {
		return nil, err
	}
	if w.batches, err = d.batches(src.Arch); err != nil {
		return nil, err
	}
	outside, err := w.load(-1)
	if err != nil {
		return nil, err
	}
	w.teacher = model.New(src.Arch, outside.constant)
	w.student = model.New(converted, outside.constant)
	if err := w.embed(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close removes what was kept.
func (w *Walk) Close() error {
	if w == nil {
		return nil
	}
	return w.states.Close()
}

// windows are how many are drawn, and of how many tokens.
func (d Data) windows(a *configs.Arch) (n, length int) {
	length = min(a.Context, 2048, max(d.Tokens, 2))
	return min(max(d.Tokens/length, 1), len(d.IDs)/length), length
}

// Used is how many tokens a walk takes.
func (d Data) Used(a *configs.Arch) int {
	n, length := d.windows(a)
	return n * length
}

// batches draws windows from the data.
func (d Data) batches(a *configs.Arch) ([]ops.Batch, error) {
	n, length := d.windows(a)
	sampler, err := text.NewSampler(d.IDs, length, d.Seed)
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	per := max(1, min(batchTokens/length, n/2)) // two batches at least: one may be held out
	var all []ops.Batch
	windows := sampler.Batch(0, n)
	for at := 0; at < n; at += per {
		all = append(all, ops.NewBatch(windows[at:min(at+per, n)]...))
	}
	return all, nil
}

// named are weights by the forward pass's names.
type named struct {
	values map[string][]float32
	shapes map[string][]int
}

// load reads the weights of a layer; -1 is those outside the layers.
func (w *Walk) load(layer int) (named, error) {
	n := named{map[string][]float32{}, map[string][]int{}}
	for _, p := range w.params {
		if p.Name != configs.ParamName(p.Role, layer, p.Bias) {
			continue
		}
		values, err := w.src.Read(p)
		if err != nil {
			return n, err
		}
		n.values[p.Name], n.shapes[p.Name] = values, p.Shape
	}
	return n, nil
}

// constant is the weight of that name, not to be trained.
func (n named) constant(name string) (spago.Tensor, bool) {
	values, ok := n.values[name]
	if !ok {
		return nil, false
	}
	rows := n.shapes[name][0]
	return spago.Constant(values, rows, len(values)/rows), true
}

// embed computes what the first layer reads.
func (w *Walk) embed(ctx context.Context) error {
	for i, b := range w.batches {
		if err := ctx.Err(); err != nil {
			return err
		}
		x := append([]float32(nil), spago.Values(w.teacher.Start(w.engine, b))...)
		w.engine.Reset()
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

// kind is what is kept of each batch.
type kind string

const (
	teacherState kind = "teacher" // what the next layer of the original reads
	studentState kind = "student" // … and of the converted model
	target       kind = "target"  // what the attention in work should give
	input        kind = "input"   // what it reads in the converted model
)

func (w *Walk) put(k kind, batch int, values []float32) error {
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
func (w *Walk) layer(layer int) error {
	weights, err := w.load(layer)
	if err != nil {
		return err
	}
	w.teacher.SetLayer(layer, func(name string) (spago.Tensor, bool) {
		t, ok := weights.constant(name)
		switch name {
		case configs.ParamName(configs.Q, layer, false):
			w.engine.q = t
		case configs.ParamName(configs.O, layer, false):
			w.engine.o = t
		}
		return t, ok
	})
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
		if err := f(i, b, x); err != nil {
			return err
		}
		w.engine.Reset()
	}
	return nil
}

// Layer takes the original through a layer, keeps what the converted model's attention reads there and should give, and
// returns the moment of what that reads. Where the converted model is followed, its attention should also make good
// by how much the layers before it left the stream off.
func (w *Walk) Layer(ctx context.Context, layer int) (*merge.Moment, error) {
	if err := w.layer(layer); err != nil {
		return nil, err
	}
	var m moment
	err := w.each(ctx, teacherState, func(i int, b ops.Batch, x []float32) error {
		y := w.teacher.Layer(layer, w.engine, rows(x, b), b)
		read, wanted := w.engine.takeRead(), w.engine.takeWritten()
		if w.follow {
			s, err := w.get(studentState, i)
			if err != nil {
				return err
			}
			copy(read, spago.Values(w.teacher.Read(layer, w.engine, rows(s, b))))
			if w.corrects() {
				kernels.Axpy(1/float32(w.src.Arch.ResidualScale), x, wanted)
				kernels.Axpy(-1/float32(w.src.Arch.ResidualScale), s, wanted)
			}
		}
		copy(x, spago.Values(y))
		m.add(read, len(read)/len(b.IDs))
		return errors.Join(w.put(teacherState, i, x), w.put(input, i, read), w.put(target, i, wanted))
	})
	return m.result(), err
}

// corrects says whether what attention gives is added to the stream as it is.
func (w *Walk) corrects() bool {
	a := w.src.Arch
	return !a.Has(configs.AttnOutNorm) && a.Residual != configs.Normed
}

// Advance takes the converted model through a layer with the weights that were fitted.
func (w *Walk) Advance(ctx context.Context, layer int, changed Weights) error {
	w.attach(layer, changed)
	return w.each(ctx, studentState, func(i int, b ops.Batch, x []float32) error {
		copy(x, spago.Values(w.student.Layer(layer, w.engine, rows(x, b), b)))
		return w.put(studentState, i, x)
	})
}

// rows are values as one row per token of the batch.
func rows(values []float32, b ops.Batch) spago.Tensor {
	return spago.Constant(values, len(b.IDs), len(values)/len(b.IDs))
}
