package devicetest

import (
	"context"
	"math"

	"gqa/internal/activation"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
)

// Scarce is the CPU with memory of its own, as a GPU has it, of which there may not be enough. It then behaves as a GPU:
// nothing more is computed until Recover. Memory is full of NaN when it is allocated and after it is freed.
type Scarce struct {
	device.Device          // cpu, or nothing after a failure
	Limit         int      // bytes that can be in use; 0: any number
	FailAt        int      // the number, from 1, of a call of New that fails; 0: none
	Calls         int      // of New
	Steps         []int    // the numbers of those calls by AdamW and Adafactor
	InUse, Most   int      // bytes, now and at most
	Misused       []string // what a caller may not do
	cpu           *cpu.Device
	buffers       map[*float32]device.Buffer
	failed        error
}

// NewScarce returns a device with as much memory as the CPU has.
func NewScarce() *Scarce {
	d := &Scarce{cpu: cpu.New(), buffers: map[*float32]device.Buffer{}}
	d.Device = d.cpu
	return d
}

// Room implements device.Roomy.
func (d *Scarce) Room() uint64 {
	if d.Limit == 0 {
		return 1 << 40
	}
	return uint64(max(d.Limit-d.InUse, 0))
}

// Queues implements device.Queuer. It computes at once, but its users are to think otherwise.
func (*Scarce) Queues() {}

// Name implements device.Namer.
func (*Scarce) Name() string { return "a scarce device" }

// Err implements device.Device.
func (d *Scarce) Err() error { return d.failed }

// Recover implements device.Recoverer.
func (d *Scarce) Recover() bool {
	before := d.failed
	d.failed, d.Device = nil, d.cpu
	return before != nil
}

// New implements device.Memory.
func (d *Scarce) New(f device.Format, n int) device.Buffer {
	size := n * f.Size()
	d.Calls++
	if over := d.Limit > 0 && d.InUse+size > d.Limit; over || d.Calls == d.FailAt {
		if d.failed == nil {
			d.failed = &device.MemoryError{Device: d.Name(), Wanted: uint64(size), Held: uint64(d.InUse), All: uint64(d.Limit)}
		}
		d.Device = nothing{}
		return device.At(0, f, n)
	}
	b := d.cpu.New(f, n)
	if x := b.F32(); len(x) > 0 {
		spoil(x)
		d.buffers[&x[0]] = b
		d.InUse += size
		d.Most = max(d.Most, d.InUse)
	}
	return b
}

// Free implements device.Memory.
func (d *Scarce) Free(b device.Buffer) {
	x := b.F32()
	if len(x) == 0 {
		return
	}
	whole, ok := d.buffers[&x[0]]
	if !ok || whole.Len() != len(x) {
		d.Misused = append(d.Misused, "memory is freed that is not allocated")
		return
	}
	spoil(x)
	delete(d.buffers, &x[0])
	d.InUse -= 4 * len(x)
	d.cpu.Free(b)
}

func spoil(x []float32) {
	for i := range x {
		x[i] = float32(math.NaN())
	}
}

// Put implements device.Memory.
func (d *Scarce) Put(x []float32) device.Buffer {
	b := d.New(device.F32, len(x))
	d.Write(b, x)
	return b
}

// Unload implements device.Memory.
func (d *Scarce) Unload(b device.Buffer) { d.Free(b) }

// Load implements device.Memory.
func (d *Scarce) Load(_ device.Format, x []float32, _, _ int, _ bool) device.Buffer { return d.Put(x) }

// Host implements device.Memory.
func (d *Scarce) Host(b device.Buffer) []float32 {
	x := make([]float32, b.Len())
	if d.failed == nil {
		copy(x, b.F32())
	}
	return x
}

// NewRope implements device.Positions.
func (d *Scarce) NewRope(invFreq []float64, positions int, scale float64, interleaved bool) device.Rope {
	table := d.New(device.F32, 2*positions*len(invFreq))
	if d.failed != nil {
		d.Free(table)
		return noRope{}
	}
	return scarceRope{d.cpu.NewRope(invFreq, positions, scale, interleaved), table}
}

// scarceRope is a table that takes memory.
type scarceRope struct {
	device.Rope
	memory device.Buffer
}

// FreeRope implements device.Positions.
func (d *Scarce) FreeRope(r device.Rope) {
	if table, ok := r.(scarceRope); ok {
		d.Free(table.memory)
	}
}

// Rotate implements device.Positions.
func (d *Scarce) Rotate(r device.Rope, y, x device.Rows, pos []int32, heads, headDim int, inverse bool) {
	if table, ok := r.(scarceRope); ok {
		d.Device.Rotate(table.Rope, y, x, pos, heads, headDim, inverse)
	}
}

// AdamW implements device.Optimizers. It needs some memory, as on a GPU.
func (d *Scarce) AdamW(steps []device.AdamWStep, scale device.Buffer, t int) {
	table := d.New(device.F32, len(steps))
	d.Steps = append(d.Steps, d.Calls)
	d.Device.AdamW(steps, scale, t)
	d.Free(table)
}

// Adafactor implements device.Optimizers. It needs some memory, as on a GPU.
func (d *Scarce) Adafactor(steps []device.AdafactorStep, scale device.Buffer, t int) {
	sums := d.New(device.F32, 6)
	d.Steps = append(d.Steps, d.Calls)
	d.Device.Adafactor(steps, scale, t)
	d.Free(sums)
}

// noRope is a table that there was no memory for.
type noRope struct{}

func (noRope) Positions() int { return 0 }

// nothing is a device that has failed.
type nothing struct{}

func (nothing) Err() error                 { return nil }
func (nothing) Until(context.Context)      {}
func (nothing) Activations() device.Format { return device.F32 }

func (nothing) LogitsAtOnce() int { return 1 << 22 }

func (nothing) New(device.Format, int) device.Buffer { return device.Buffer{} }
func (nothing) Free(device.Buffer)                   {}
func (nothing) Put([]float32) device.Buffer          { return device.Buffer{} }
func (nothing) Unload(device.Buffer)                 {}

func (nothing) Load(device.Format, []float32, int, int, bool) device.Buffer         { return device.Buffer{} }
func (nothing) Write(device.Buffer, []float32)                                      {}
func (nothing) Host(device.Buffer) []float32                                        { return nil }
func (nothing) Split(_, _, _ device.Buffer)                                         {}
func (nothing) Join(_, _, _ device.Buffer)                                          {}
func (nothing) Copy(_, _ device.Buffer)                                             {}
func (nothing) Clear(device.Buffer)                                                 {}
func (nothing) Add(_, _, _ device.Buffer)                                           {}
func (nothing) Axpy(float32, device.Buffer, device.Buffer)                          {}
func (nothing) Scale(device.Buffer, float32)                                        {}
func (nothing) ScaleBy(_, _ device.Buffer)                                          {}
func (nothing) Shift(_, _ device.Buffer, _ float32)                                 {}
func (nothing) Clip(_, _ device.Buffer, _ float32)                                  {}
func (nothing) ClipBackward(_, _, _ device.Buffer, _ float32)                       {}
func (nothing) Lerp(_, _ device.Buffer, _ float32)                                  {}
func (nothing) Swap(_, _ device.Buffer)                                             {}
func (nothing) Activate(activation.Func, device.Buffer, device.Buffer)              {}
func (nothing) ActivateBackward(_ activation.Func, _, _, _ device.Buffer)           {}
func (nothing) CopyRows(_, _ device.Rows, _, _ int)                                 {}
func (nothing) Gate(_ activation.Func, _ device.Buffer, _, _ device.Rows, _, _ int) {}
func (nothing) Multiply(_, _ int, _ device.Buffer, _ []device.Product)              {}
func (nothing) AddRows(_, _ device.Buffer, _, _ int)                                {}
func (nothing) SumRows(_, _ device.Buffer, _, _ int)                                {}
func (nothing) RMSNorm(_, _, _, _ device.Buffer, _, _ int, _ float32)               {}
func (nothing) RMSNormBackward(_, _, _, _, _, _ device.Buffer, _, _ int, _ bool)    {}
func (nothing) LayerNorm(_, _, _, _, _, _ device.Buffer, _, _ int, _ float32)       {}
func (nothing) LayerNormBackward(_, _, _, _, _, _, _, _ device.Buffer, _, _ int, _ bool) {
}
func (nothing) AddRMSNorm(_, _, _, _, _, _ device.Buffer, _, _ int, _ float32)         {}
func (nothing) AddLayerNorm(_, _, _, _, _, _, _, _ device.Buffer, _, _ int, _ float32) {}
func (nothing) FreeRope(device.Rope)                                                   {}
func (nothing) NewRope([]float64, int, float64, bool) device.Rope                      { return noRope{} }
func (nothing) Rotate(_ device.Rope, _, _ device.Rows, _ []int32, _, _ int, _ bool)    {}
func (nothing) RelativeBias(_, _ device.Buffer, _ []int32, _, _, _ int)                {}
func (nothing) RelativeBiasBackward(_, _ device.Buffer, _ []int32, _, _, _ int)        {}
func (nothing) Attend(_ device.Scores, _ device.Heads, _ device.Buffer, _, _, _ device.Heads) {
}
func (nothing) Store(_, _ device.Heads, _ int, _, _ device.Buffer, _, _, _ int) {}
func (nothing) Gather(_, _ device.Buffer, _ []int32, _ int)                     {}
func (nothing) ScatterAdd(_, _ device.Buffer, _ []int32, _ int)                 {}
func (nothing) ClearRows(_ device.Buffer, _ []int32, _ int32, _ int)            {}
func (nothing) Solve(_, _ []float32, _ int, _ float64) []float64                { return nil }
func (nothing) CrossEntropy(_, _ device.Buffer, _ []int32, _, _ int)            {}
func (nothing) Argmax(_ []int32, _ device.Buffer, _, _ int)                     {}
func (nothing) Total(device.Buffer, float32, ...device.Term)                    {}
func (nothing) Sum(...device.Term) device.Number                                { return func() float64 { return math.NaN() } }
func (nothing) AdamW([]device.AdamWStep, device.Buffer, int)                    {}
func (nothing) Adafactor([]device.AdafactorStep, device.Buffer, int)            {}
func (nothing) Encode(_, _, _ device.Buffer)                                    {}
func (nothing) Decode(_, _, _ device.Buffer)                                    {}
func (nothing) Muon([]device.MuonStep, device.Buffer)                           {}
func (nothing) ClipScale(device.Buffer, float64, ...device.Term) device.Number {
	return func() float64 { return math.NaN() }
}

func (nothing) CrossEntropyGradient(_, _ device.Buffer, _ []int32, _ float32, _, _ int) {
}

func (nothing) TopLogP(_ []int32, _ []float32, _ device.Buffer, _ float32, _, _, _ int) {
}

func (nothing) Gemm(_, _ bool, _, _, _ int, _ float32, _ device.Buffer, _ int, _ device.Buffer, _ int, _ float32, _ device.Buffer, _ int) {
}

func (nothing) JoinHeads(_, _, _ device.Rows, _, _, _, _ int, _ bool) {}

func (nothing) SplitHeads(_, _, _ device.Rows, _, _, _, _ int, _ bool) {}

func (nothing) MultiplyHeads(_ bool, _, _, _, _ int, _, _ device.Heads, _ device.Buffer) {}

func (nothing) GateBackward(_ activation.Func, _, _ device.Rows, _ device.Buffer, _, _ device.Rows, _, _ int) {
}

func (nothing) AttendBackward(_ device.Scores, _, _, _ device.Heads, _ device.Buffer, _, _ device.Heads, _ device.Buffer, _, _, _ device.Heads) {
}

func (nothing) Distill(_, _, _ device.Buffer, _ []int32, _ device.Soft, _ device.Distillation, _ float32, _, _ int) {
}
