//go:build cuda && linux

package cuda

import (
	"fmt"

	"gqa/internal/cuda"
	"gqa/internal/device"
	"gqa/internal/units"
)

var (
	_ device.Namer     = (*Device)(nil)
	_ device.Noter     = (*Device)(nil)
	_ device.Queuer    = (*Device)(nil)
	_ device.Recoverer = (*Device)(nil)
)

// Name implements device.Namer: GPU 0 (NVIDIA H200, 140 GiB).
func (d *Device) Name() string {
	return fmt.Sprintf("GPU %d (%s, %s)", d.gpu.Number, d.gpu.Name, units.Bytes(int64(d.gpu.Memory)))
}

// AllReduce makes NCCL sum x over the GPUs of a communicator with one member. If NCCL works, the result is x.
func (d *Device) AllReduce(x []float32) ([]float32, error) { return d.gpu.AllReduce(x) }

// note adds a note, unless it has been made before.
func (d *Device) note(text string) {
	if !d.noted[text] {
		d.noted[text] = true
		d.notes = append(d.notes, text)
	}
}

// Notes implements device.Noter.
func (d *Device) Notes() []string {
	notes := d.notes
	d.notes = nil
	return notes
}

// Queues implements device.Queuer.
func (*Device) Queues() {}

// Time runs f and returns the time of its operations, the longest first.
func (d *Device) Time(f func()) ([]cuda.Timing, error) { return d.gpu.Time(f) }

// Count returns the number of GPUs, or the reason why none can be used.
func Count() (int, error) { return cuda.Count() }

// GPU returns what the device computes on, for operations between processes.
func (d *Device) GPU() *cuda.GPU { return d.gpu }
