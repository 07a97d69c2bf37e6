//go:build cuda && linux

package devices

import (
	"gqa/internal/device"
	"gqa/internal/device/cuda"
)

// GPUs says whether this build uses GPUs.
const GPUs = true

func openGPU(n int) (device.Device, error) {
	d, err := cuda.Open(n)
	if err != nil {
		return nil, err
	}
	return d, nil
}
