package calibrate

import (
	"cmp"
	"context"

	"gqa/configs"
	"gqa/convert/merge"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// addEncoder starts the walk through the encoder of src, if there is one, on the encoder's inputs of this walk's
// batches.
func (w *Walk) addEncoder(ctx context.Context, converted *configs.Arch, outside named, dir string) (err error) {
	if w.arch.EncoderLayers == 0 {
		return nil
	}
	var sources []ops.Batch
	for _, b := range w.batches {
		sources = append(sources, *b.Source)
	}
	e, err := newStack(ctx, w.engine.Device(), w.src, w.arch.Encoder(), converted.Encoder(), sources, dir)
	if err != nil {
		return err
	}
	e.seed, e.follow = w.seed, w.follow && converted.EncoderKVHeads != w.arch.EncoderKVHeads
	own, err := e.load(ctx, -1)
	if err != nil {
		return err
	}
	embed := configs.ParamName(configs.Embed, -1, false)
	own.values[embed], own.shapes[embed] = outside.values[embed], outside.shapes[embed]
	e.begin(converted.Encoder(), own)
	w.encoder = e
	return nil
}

// Encoder returns the walk through the encoder whose output this stack's layers read. It precedes the first of them.
func (w *Walk) Encoder() *Walk { return w.encoder }

// Move replaces the converted model's table of position biases by one in its own order of heads: [buckets, heads].
func (w *Walk) Move(name string, table []float32) {
	w.moved[name] = table
	if name == configs.ParamName(configs.Distances, -1, false) {
		t := w.engine.Constant(table, len(table)/w.arch.Heads, w.arch.Heads)
		w.outside = append(w.outside, t)
		w.student.SetDistances(t)
	}
	if w.weights.values != nil {
		w.weights.values[name] = table
	}
}

// runEncoder runs the text through the remaining layers of the encoder, and keeps the output.
func (w *Walk) runEncoder(ctx context.Context) error {
	e := w.encoder
	if e == nil || w.memoryMoment != nil {
		return nil
	}
	for ; e.done < e.arch.Layers; e.done++ {
		if err := e.pass(ctx, e.done); err != nil {
			return err
		}
	}
	m := moment{device: w.engine.Device()}
	err := e.each(ctx, teacherState, func(i int, b ops.Batch, x device.Buffer) error { return w.keepMemory(i, b, x, &m) })
	if err = cmp.Or(err, w.states.verify()); err != nil {
		return err
	}
	w.memoryMoment = m.result()
	return e.states.close()
}

// keepMemory keeps the encoder's output for batch i, given the states x after the original's last layer, and adds the input of
// the converted model's cross-attention to a moment.
func (w *Walk) keepMemory(i int, b ops.Batch, x device.Buffer, m *moment) error {
	e := w.encoder
	memory := e.engine.Copied(e.teacher.End(e.engine, e.rows(x, b)))
	if !e.follow {
		m.add(memory, b)
		return w.states.put(teacherMemory, i, memory)
	}
	s, err := e.states.get(studentState, i)
	if err != nil {
		return err
	}
	other := e.engine.Copied(e.student.End(e.engine, e.rows(s, b)))
	m.add(other, b)
	return cmp.Or(w.states.put(teacherMemory, i, memory), w.states.put(studentMemory, i, other))
}

// pass runs the original through a layer that the conversion does not change.
func (w *Walk) pass(ctx context.Context, layer int) error {
	if err := w.layer(ctx, layer); err != nil {
		return err
	}
	return w.each(ctx, teacherState, func(i int, b ops.Batch, x device.Buffer) error {
		return w.states.put(teacherState, i, w.engine.Copied(w.run(w.teacher, layer, b, x)))
	})
}

// withMemory returns the model m set up to read the encoder's output for batch i, if there is an encoder.
func (w *Walk) withMemory(m *model.Model[spago.Tensor], k kind, i int) (*model.Model[spago.Tensor], error) {
	if w.encoder == nil {
		return m, nil
	}
	if !w.encoder.follow {
		k = teacherMemory
	}
	memory, err := w.states.get(k, i)
	if err != nil {
		return nil, err
	}
	return m.Reading(w.rows(memory, *w.batches[i].Source)), nil
}

// keepCross keeps the input and output of the original's cross-attention for a layer with input x and self-attention
// output attn. If the walk follows the converted model, it keeps the states after cross-attention instead.
func (w *Walk) keepCross(i int, x, attn device.Buffer) error {
	if w.encoder == nil {
		return nil
	}
	read, wanted := w.cross.takeRead(), w.cross.takeWritten()
	if w.follow && w.corrects() {
		w.engine.Device().Axpy(1, x, wanted)
		w.engine.Device().Axpy(float32(w.arch.ResidualScale), attn, wanted)
	}
	return cmp.Or(w.states.put(crossTarget, i, wanted), w.states.put(crossInput, i, read))
}

// Cross is Layer for a layer's cross-attention, after its self-attention has been fitted. It returns the moments of the
// inputs of queries, and of keys and values.
func (w *Walk) Cross(ctx context.Context, layer int, changed Weights) (query, memory *merge.Moment, err error) {
	if w.done <= layer {
		if _, err := w.Layer(ctx, layer); err != nil {
			return nil, nil, err
		}
	}
	w.at = crossAttention
	w.attach(layer, changed)
	k := crossInput
	if w.follow {
		k = studentState
	}
	m := moment{device: w.engine.Device()}
	err = w.each(ctx, k, func(i int, b ops.Batch, x device.Buffer) error { return w.keepCrossInput(layer, i, b, x, &m) })
	return m.result(), w.memoryMoment, err
}

// keepCrossInput keeps the input and the target of the converted model's cross-attention for batch i, and adds the input to a
// moment. x is the original's input or, if the walk follows the converted model, that model's states before the layer.
func (w *Walk) keepCrossInput(layer, i int, b ops.Batch, x device.Buffer, m *moment) error {
	kept, err := w.states.get(crossTarget, i)
	if err != nil {
		return err
	}
	wanted := w.copied(kept)
	var read device.Buffer
	if w.follow {
		states, in := w.student.Between(layer, w.engine, w.rows(x, b), b)
		read = w.engine.Copied(in)
		if w.corrects() {
			after := w.engine.Copied(states)
			w.engine.Device().Axpy(-1, after, wanted)
			w.engine.Device().Free(after)
		}
	} else {
		read = w.copied(x)
	}
	m.add(read, b)
	return cmp.Or(w.states.put(input, i, read), w.states.put(target, i, wanted))
}

// copied returns a copy of rows, which the caller must free.
func (w *Walk) copied(rows device.Buffer) device.Buffer {
	b := w.engine.Device().New(device.F32, rows.Len())
	w.engine.Device().Copy(b, rows)
	return b
}

// attend returns the output of the converted model's attention for input x of batch i.
func (w *Walk) attend(layer, i int, x device.Buffer) (spago.Tensor, error) {
	b := w.batches[i]
	if !w.at.cross {
		return w.student.Attend(layer, w.engine, w.rows(x, b), b), nil
	}
	student, err := w.withMemory(w.student, studentMemory, i)
	if err != nil {
		return nil, err
	}
	return student.AttendMemory(layer, w.engine, w.rows(x, b), b), nil
}
