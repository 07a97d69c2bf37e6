package calibrate

import "gqa/internal/engine/spago"

// recorder keeps what an attention's queries read, and what its output projection reads and gives.
type recorder struct {
	q, o                 spago.Tensor // the weights that tell them
	read, mixed, written []float32
}

// record looks at y, a linear layer's result of x and w.
func (r *recorder) record(e *spago.Engine, x, w, y spago.Tensor) {
	switch w {
	case r.q:
		r.read = append(r.read[:0], e.Values(x)...)
	case r.o:
		r.mixed = append(r.mixed[:0], e.Values(x)...)
		r.written = append(r.written[:0], e.Values(y)...)
	}
}

// takeRead hands over what was read.
func (r *recorder) takeRead() []float32 {
	x := r.read
	r.read = nil
	return x
}

// takeWritten hands over what was written.
func (r *recorder) takeWritten() []float32 {
	x := r.written
	r.written = nil
	return x
}
