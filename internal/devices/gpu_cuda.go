//go:build cuda && linux

package devices

import (
	"gqa/internal/device"
	"gqa/internal/device/cuda"
)

// GPUs reports whether this build uses GPUs.
const GPUs = true

func countGPUs() (int, error) { return cuda.Count() }

func openGPU(n int, o Options) (device.Device, error) {
	d, err := cuda.Open(n, cuda.Options(o))
	if err != nil {
		return nil, err
	}
	return d, nil
}
