//go:build cuda && linux

package cuda

import (
	"gqa/internal/cuda"
	"gqa/internal/device"
)

var _ device.Replayer = (*Device)(nil)

// recording is what a Replay has on the GPU: its inputs, and from the second time on its operations.
type recording struct {
	of     *device.Replay
	inputs device.Buffer // 32-bit integers: First, then at multiples of 4 IDs, Pos, Shift and Lens
	host   []int32
	runs   int
	graph  *cuda.Graph // nil: not recorded
	err    error       // why it could not be recorded
	kept   []uintptr   // memory that the graph uses
}

// Replay implements device.Replayer. The first time it runs f, so that kernels are compiled and memory is allocated; the second
// time it records f.
func (d *Device) Replay(r *device.Replay, f func()) {
	rec, ok := r.State.(*recording)
	if !ok {
		n := offsets(r).end
		rec = &recording{of: r, inputs: d.New(device.F32, n), host: make([]int32, n)}
		r.State = rec
	}
	rec.runs++
	if d.stopped() {
		return
	}
	rec.send(d)
	if rec.runs == 2 {
		rec.record(d, f)
	}
	if rec.graph != nil {
		rec.graph.Launch()
		return
	}
	d.request(rec, f)
}

// request calls f, whose operations find their inputs in rec.
func (d *Device) request(rec *recording, f func()) {
	d.replay = rec
	f()
	d.replay = nil
}

// record records f's operations if the GPU can.
func (rec *recording) record(d *Device, f func()) {
	var graph *cuda.Graph
	var err error
	kept := d.pool.record(func() { graph, err = d.gpu.Capture(func() { d.request(rec, f) }) })
	if err != nil || d.stopped() { // what was requested did not run, so that it had no effect
		if d.failed = nil; graph != nil {
			graph.Destroy()
		}
		d.putAll(kept)
		rec.err = err
		return
	}
	rec.graph, rec.kept = graph, kept
}

func (d *Device) putAll(all []uintptr) {
	for _, at := range all {
		d.pool.put(at)
	}
}

// Forget implements device.Replayer.
func (d *Device) Forget(r *device.Replay) {
	rec, ok := r.State.(*recording)
	if !ok {
		return
	}
	if rec.graph != nil {
		rec.graph.Destroy()
	}
	d.putAll(rec.kept)
	d.Free(rec.inputs)
	r.State = nil
}

// places are where the inputs of a Replay are, and their length.
type places struct{ ids, pos, shift, lens, end int }

func offsets(r *device.Replay) (p places) {
	after := func(at, n int) int { return at + (n+3)/4*4 }
	p.ids = 4
	p.pos = after(p.ids, len(r.IDs))
	p.shift = after(p.pos, len(r.Pos))
	p.lens = after(p.shift, len(r.Shift))
	p.end = after(p.lens, len(r.Lens))
	return p
}

// send copies the inputs to the GPU.
func (rec *recording) send(d *Device) {
	r, p := rec.of, offsets(rec.of)
	rec.host[0] = int32(r.First)
	copy(rec.host[p.ids:], r.IDs)
	copy(rec.host[p.pos:], r.Pos)
	copy(rec.host[p.shift:], r.Shift)
	integers(rec.host[p.lens:p.lens], r.Lens)
	cuda.Send(d.gpu, rec.inputs.Addr(), rec.host)
}

// integers appends numbers as 32-bit integers.
func integers(to []int32, from []int) []int32 {
	for _, n := range from {
		to = append(to, int32(n))
	}
	return to
}

// same reports whether two slices are one.
func same[E any](a, b []E) bool { return len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] }

// input returns the GPU's copy of integers that are an input; none if they are not. It must not be freed, but Free ignores it.
func (rec *recording) input(x []int32) (b device.Buffer) {
	if rec == nil {
		return b
	}
	p := offsets(rec.of)
	switch {
	case same(x, rec.of.IDs):
		b = rec.inputs.Slice(p.ids, p.ids+len(x))
	case same(x, rec.of.Pos):
		b = rec.inputs.Slice(p.pos, p.pos+len(x))
	case same(x, rec.of.Shift):
		b = rec.inputs.Slice(p.shift, p.shift+len(x))
	}
	return b
}

// lens is input for Lens.
func (rec *recording) lens(x []int) (b device.Buffer) {
	if rec == nil || !same(x, rec.of.Lens) {
		return b
	}
	at := offsets(rec.of).lens
	return rec.inputs.Slice(at, at+len(x))
}

// first is input for First, if n is that.
func (rec *recording) first(n int) (b device.Buffer) {
	if rec != nil && n == rec.of.First {
		b = rec.inputs.Slice(0, 1)
	}
	return b
}
