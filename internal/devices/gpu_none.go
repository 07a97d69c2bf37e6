//go:build !cuda || !linux

package devices

import "gqa/internal/device"

// GPUs reports whether this build uses GPUs.
const GPUs = false

func countGPUs() (int, error) { return 0, ErrBuild }

func openGPU(int, Options) (device.Device, error) { return nil, ErrBuild }
