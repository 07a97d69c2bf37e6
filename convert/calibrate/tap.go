package calibrate

import (
	"gqa/internal/engine/spago"
	"gqa/internal/ops"
)

// tap is the engine, listening to one layer's attention: what its queries read, what its output projection reads and gives.
type tap struct {
	*spago.Engine
	q, o                 spago.Tensor // the weights that tell them
	read, mixed, written []float32
}

// Linear is the engine's.
func (t *tap) Linear(x spago.Tensor, w ops.Linear[spago.Tensor]) spago.Tensor {
	y := t.Engine.Linear(x, w)
	switch w.W {
	case t.q:
		t.read = append(t.read[:0], spago.Values(x)...)
	case t.o:
		t.mixed = append(t.mixed[:0], spago.Values(x)...)
		t.written = append(t.written[:0], spago.Values(y)...)
	}
	return y
}

// takeRead hands over what was read.
func (t *tap) takeRead() []float32 {
	x := t.read
	t.read = nil
	return x
}

// takeWritten hands over what was written.
func (t *tap) takeWritten() []float32 {
	x := t.written
	t.written = nil
	return x
}
