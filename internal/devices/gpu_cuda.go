//go:build cuda && linux

package devices

import (
	"gqa/internal/device"
	"gqa/internal/device/cuda"
)

func openGPU(n int, format device.Format) (device.Device, error) {
	d, err := cuda.Open(n, format)
	if err != nil {
		return nil, err
	}
	return d, nil
}
