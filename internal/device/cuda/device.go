//go:build cuda && linux

package cuda

import (
	"context"
	"fmt"
	"slices"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// Device is a GPU that computes in float32, without TF32, or with activations in bfloat16 and sums in float32. Operations
// return before they are complete. After an operation has failed, no more are run, and Err returns the error.
type Device struct {
	gpu     *cuda.GPU
	pool    pool
	ctx     context.Context
	failed  error // an error of this package
	options Options
	held    []held          // the latest first
	notes   []string        // not yet asked for
	noted   map[string]bool // all notes
	replay  *recording      // whose operations are being requested; nil if none
	rounds  bool            // whether products of F32 round their factors
}

// Options determine how a GPU computes.
type Options struct {
	Activations      device.Format // F32 or BF16
	Nondeterministic bool          // faster operations, which may give different bits each time
}

var _ device.Device = (*Device)(nil)

// Open returns GPU number n, counted from 0, as a device.
func Open(n int, o Options) (*Device, error) {
	gpu, err := cuda.Open(n)
	if err != nil {
		return nil, err
	}
	d := &Device{gpu: gpu, options: o, ctx: context.Background(), noted: map[string]bool{}}
	d.pool = pool{gpu: gpu, free: map[uint64][]uintptr{}, sizes: map[uintptr]uint64{}}
	return d, nil
}

// Err returns the first error of an operation, or nil if there was none.
func (d *Device) Err() error {
	if d.failed != nil {
		return d.failed
	}
	return d.gpu.Err()
}

// Activations implements device.Device.
func (d *Device) Activations() device.Format { return d.options.Activations }

// LogitsAtOnce implements device.Device: a part of the memory that is the same in every run.
func (d *Device) LogitsAtOnce() int { return int(d.gpu.Memory/256) / d.options.Activations.Size() }

// Round implements device.Rounder.
func (d *Device) Round(on bool) { d.rounds = on }

// Until implements device.Device.
func (d *Device) Until(ctx context.Context) { d.ctx = ctx }

// stopped reports whether no more operations are to be run.
func (d *Device) stopped() bool { return d.failed != nil || d.ctx.Err() != nil }

func (d *Device) fail(err error) {
	if d.failed == nil {
		d.failed = err
	}
}

// New implements device.Memory.
func (d *Device) New(f device.Format, n int) device.Buffer {
	at, err := d.pool.get(uint64(f.Bytes(n)))
	if err != nil {
		d.fail(err)
	}
	return device.At(at, f, n)
}

// Free implements device.Memory.
func (d *Device) Free(b device.Buffer) {
	if b.Addr() != 0 {
		d.pool.put(b.Addr())
	}
}

// Put implements device.Memory.
func (d *Device) Put(x []float32) device.Buffer {
	b := d.New(device.F32, len(x))
	d.Write(b, x)
	return b
}

// Unload implements device.Memory.
func (d *Device) Unload(b device.Buffer) { d.Free(b) }

// Load implements device.Memory.
func (d *Device) Load(f device.Format, x []float32, _, _ int, _ bool) device.Buffer {
	b := d.New(f, len(x))
	d.Write(b, x)
	return b
}

// sentAtOnce is the most numbers that are copied on the host so that it need not wait for the GPU.
const sentAtOnce = 1 << 14

// Write implements device.Memory.
func (d *Device) Write(dst device.Buffer, x []float32) {
	switch {
	case d.stopped():
	case dst.Format() == device.F32 && len(x) <= sentAtOnce:
		cuda.Send(d.gpu, dst.Addr(), x)
	case dst.Format() == device.F32:
		cuda.Upload(d.gpu, dst.Addr(), x)
	default:
		wide := d.Put(x)
		d.convert(dst, wide, len(x))
		d.Free(wide)
	}
}

// Split implements device.Memory.
func (d *Device) Split(high, rest, x device.Buffer) {
	d.each(optimSource, "split", d.sameLength("split", x, high, rest), addr(high), addr(rest), addr(x), uint64(x.Len()))
}

// Join implements device.Memory.
func (d *Device) Join(x, high, rest device.Buffer) {
	d.each(optimSource, "join", d.sameLength("join", x, high, rest), addr(x), addr(high), addr(rest), uint64(x.Len()))
}

// Host implements device.Memory. It waits.
func (d *Device) Host(b device.Buffer) []float32 {
	x := make([]float32, b.Len())
	if d.failed != nil {
		return x
	}
	if b.Format() != device.F32 {
		wide := d.New(device.F32, b.Len())
		defer d.Free(wide)
		d.convert(wide, b, b.Len())
		b = wide
	}
	if err := cuda.Download(d.gpu, x, b.Addr()); err != nil {
		d.fail(err)
	}
	return x
}

func (d *Device) convert(dst, x device.Buffer, n int) {
	d.convertRows(device.Rows{Buffer: dst}, device.Rows{Buffer: x}, 1, n)
}

// convertRows copies a matrix [rows, dim] of any formats.
func (d *Device) convertRows(dst, x device.Rows, rows, dim int) {
	d.each(elementwiseSource[device.F32], "convert", rows*dim, addr(dst.Buffer), uint64(dst.Format()), uint64(dst.LD),
		addr(x.Buffer), uint64(x.Format()), uint64(x.LD), uint64(rows), uint64(dim))
}

// ids copies integers to the GPU's memory, which the caller must free.
func (d *Device) ids(ids []int32) device.Buffer {
	if at := d.replay.input(ids); !at.None() {
		return at
	}
	return sent(d, ids)
}

// sent copies 32-bit numbers to the GPU's memory, which the caller must free.
func sent[E int32 | float32](d *Device, x []E) device.Buffer {
	at, err := d.pool.getConstant(uint64(4 * len(x)))
	if err != nil {
		d.fail(err)
	}
	if !d.stopped() {
		cuda.Send(d.gpu, at, x)
	}
	return device.At(at, device.F32, len(x))
}

// held are integers that are in the GPU's memory because they were used before.
type held struct {
	ids []int32
	at  device.Buffer
}

// maxHeld is the number of sets of positions that are kept: those of a batch and of its source, for training and for another
// size.
const maxHeld = 4

// positions is ids for positions, which all layers of a model share: they are copied once. The caller must not free them.
func (d *Device) positions(pos []int32) device.Buffer {
	if at := d.replay.input(pos); !at.None() {
		return at
	}
	if d.pool.constants != nil { // what is kept here may be freed while recorded operations use it
		return d.ids(pos)
	}
	for i, h := range d.held {
		if slices.Equal(h.ids, pos) {
			copy(d.held[1:i+1], d.held[:i])
			d.held[0] = h
			return h.at
		}
	}
	if len(d.held) == maxHeld {
		d.Free(d.held[maxHeld-1].at)
		d.held = d.held[:maxHeld-1]
	}
	h := held{slices.Clone(pos), d.ids(pos)}
	if d.stopped() { // they may not have been sent, and nothing will read them
		d.Free(h.at)
		return device.Buffer{}
	}
	d.held = slices.Insert(d.held, 0, h)
	return h.at
}

func addr(b device.Buffer) uint64 { return uint64(b.Addr()) }

// each launches a kernel whose threads iterate over n numbers.
func (d *Device) each(s *cuda.Source, name string, n int, args ...uint64) {
	const threads, numbers = 256, 4 // a thread takes at least 4 numbers at once if it can
	if n > 0 {
		d.launch(s, name, cuda.Grid{X: min((n+threads*numbers-1)/(threads*numbers), 32*d.gpu.Units), Threads: threads}, args...)
	}
}

// rows launches a kernel with one block per row.
func (d *Device) rows(s *cuda.Source, name string, rows, dim int, args ...uint64) {
	if rows > 0 {
		d.launch(s, name, cuda.Grid{X: rows, Threads: rowThreads(dim)}, args...)
	}
}

// rowThreads is the number of threads per row. The kernels allow no more than 512.
func rowThreads(dim int) int {
	switch {
	case dim <= 256:
		return 64
	case dim <= 4096:
		return 256
	}
	return 512
}

func (d *Device) launch(s *cuda.Source, name string, grid cuda.Grid, args ...uint64) {
	if !d.stopped() {
		d.gpu.Launch(cuda.Kernel{Source: s, Function: name}, grid, args...)
	}
}

// sameLength records an error if operands differ in length, which is a mistake of the caller that a kernel cannot detect.
func (d *Device) sameLength(op string, dst device.Buffer, others ...device.Buffer) int {
	for _, b := range others {
		if b.Len() < dst.Len() {
			d.fail(fmt.Errorf("%s of %d and %d numbers", op, dst.Len(), b.Len()))
		}
	}
	return dst.Len()
}

// inside is sameLength for matrices [rows, dim], and reports whether there is anything to do.
func (d *Device) inside(op string, rows, dim int, operands ...device.Rows) bool {
	if rows == 0 || dim == 0 {
		return false
	}
	for _, m := range operands {
		if m.LD < dim || m.Len() < (rows-1)*m.LD+dim {
			d.fail(fmt.Errorf("%s of [%d, %d] in %d numbers, rows %d apart", op, rows, dim, m.Len(), m.LD))
		}
	}
	return true
}
