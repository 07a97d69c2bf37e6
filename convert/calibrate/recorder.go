package calibrate

import (
	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
)

// recorder records the input of an attention's queries, and the input and output of its output projection, in the device's
// memory.
type recorder struct {
	q, o                 spago.Tensor // weights that identify the linear layers
	read, mixed, written device.Buffer
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
	replace := func(b *device.Buffer, t spago.Tensor) {
		e.Device().Free(*b)
		*b = e.Copied(t)
	}
	switch w {
	case r.q:
		replace(&r.read, x)
	case r.o:
		replace(&r.mixed, x)
		replace(&r.written, y)
	}
}

// takeRead returns the recorded input of the queries, which is the caller's from then on.
func (r *recorder) takeRead() device.Buffer { return take(&r.read) }

// takeWritten returns the recorded output, which is the caller's from then on.
func (r *recorder) takeWritten() device.Buffer { return take(&r.written) }

func take(b *device.Buffer) device.Buffer {
	taken := *b
	*b = device.Buffer{}
	return taken
}

// free frees what is recorded.
func (r *recorder) free(d device.Device) {
	for _, b := range []*device.Buffer{&r.read, &r.mixed, &r.written} {
		d.Free(take(b))
	}
}
