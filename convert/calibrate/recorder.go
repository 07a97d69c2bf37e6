package calibrate

import (
	"gqa/configs"
	"gqa/internal/engine/spago"
)

// recorder records the input of an attention's queries, and the input and output of its output projection.
type recorder struct {
	q, o                 spago.Tensor // weights that identify the linear layers
	read, mixed, written []float32
}

// watch records at t if name is the query or output weight of the attention a of a layer.
func (r *recorder) watch(a attention, layer int, name string, t spago.Tensor) {
	switch name {
	case configs.ParamName(a.q, layer, false):
		r.q = t
	case configs.ParamName(a.o, layer, false):
		r.o = t
	}
}

// record is called with a linear layer's input x, weight w and result y.
func (r *recorder) record(e *spago.Engine, x, w, y spago.Tensor) {
	switch w {
	case r.q:
		r.read = append(r.read[:0], e.Values(x)...)
	case r.o:
		r.mixed = append(r.mixed[:0], e.Values(x)...)
		r.written = append(r.written[:0], e.Values(y)...)
	}
}

// takeRead returns the recorded input of the queries, and clears it.
func (r *recorder) takeRead() []float32 {
	x := r.read
	r.read = nil
	return x
}

// takeWritten returns the recorded output, and clears it.
func (r *recorder) takeWritten() []float32 {
	x := r.written
	r.written = nil
	return x
}
