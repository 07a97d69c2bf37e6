//go:build cuda && linux

package cuda

import (
	"fmt"

	"gqa/internal/cuda"
	"gqa/internal/device"
	"gqa/internal/units"
)

var _ device.Namer = (*Device)(nil)

// Name implements device.Namer: GPU 0 (NVIDIA H200, 140 GiB).
func (d *Device) Name() string {
	return fmt.Sprintf("GPU %d (%s, %s)", d.gpu.Number, d.gpu.Name, units.Bytes(int64(d.gpu.Memory)))
}

// AllReduce makes NCCL sum x over the GPUs of a communicator with one member. If NCCL works, the result is x.
func (d *Device) AllReduce(x []float32) ([]float32, error) { return d.gpu.AllReduce(x) }

// Queues implements device.Queuer.
func (*Device) Queues() {}

// Time runs f and returns the time of its operations, the longest first.
func (d *Device) Time(f func()) ([]cuda.Timing, error) { return d.gpu.Time(f) }
