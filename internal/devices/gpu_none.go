//go:build !cuda || !linux

package devices

import (
	"errors"

	"gqa/internal/device"
)

// errNoCUDA says how to get a build that uses GPUs.
var errNoCUDA = errors.New("this build computes on the processor alone: build with CGO_ENABLED=0 go install -tags cuda ./cmd/... on Linux to use NVIDIA GPUs")

func openGPU(int, Options) (device.Device, error) { return nil, errNoCUDA }
