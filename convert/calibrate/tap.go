package calibrate

import (
	"gqa/internal/engine/spago"
	"gqa/internal/ops"
)

// tap is the engine, listening to a layer's attention.
type tap struct {
	*spago.Engine
	ear       // at the self-attention, or at the one in work
	cross ear // at the original's cross-attention
}

// Linear is the engine's.
func (t *tap) Linear(x spago.Tensor, w ops.Linear[spago.Tensor]) spago.Tensor {
	y := t.Engine.Linear(x, w)
	t.hear(x, w.W, y)
	t.cross.hear(x, w.W, y)
	return y
}

// ear keeps what an attention's queries read, and what its output projection reads and gives.
type ear struct {
	q, o                 spago.Tensor // the weights that tell them
	read, mixed, written []float32
}

func (l *ear) hear(x, w, y spago.Tensor) {
	switch w {
	case l.q:
		l.read = append(l.read[:0], spago.Values(x)...)
	case l.o:
		l.mixed = append(l.mixed[:0], spago.Values(x)...)
		l.written = append(l.written[:0], spago.Values(y)...)
	}
}

// takeRead hands over what was read.
func (l *ear) takeRead() []float32 {
	x := l.read
	l.read = nil
	return x
}

// takeWritten hands over what was written.
func (l *ear) takeWritten() []float32 {
	x := l.written
	l.written = nil
	return x
}
