// Package devices opens devices by the names that the flag --device takes.
package devices

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"gqa/internal/device"
	"gqa/internal/device/cpu"
)

// The names of devices. A GPU other than the first is "cuda:N".
const (
	Auto = "auto" // the first GPU where this build and the machine have one, else the processor
	CPU  = "cpu"
	CUDA = "cuda"
)

// Names describes the names for help.
const Names = "auto, cpu, cuda or cuda:N"

// Check returns an error if name is no device's, or a GPU's where this build uses none. It goes on from `device is "x", `.
func Check(name string) error {
	switch name {
	case "", Auto, CPU:
		return nil
	}
	if _, ok := number(name); !ok {
		return fmt.Errorf("want %s", Names)
	}
	if !GPUs {
		return fmt.Errorf("but %w", ErrBuild)
	}
	return nil
}

// number returns the number of the GPU of that name.
func number(name string) (n int, ok bool) {
	if name == CUDA {
		return 0, true
	}
	text, ok := strings.CutPrefix(name, CUDA+":")
	u, err := strconv.ParseUint(text, 10, 8)
	return int(u), ok && err == nil
}

// Open returns a device; no name at all is the processor.
func Open(name string) (device.Device, error) {
	if err := Check(name); err != nil {
		return nil, fmt.Errorf("device is %q, %w", name, err)
	}
	switch name {
	case "", CPU:
		return cpu.New(), nil
	case Auto:
		return openAuto(), nil
	}
	n, _ := number(name)
	d, err := openGPU(n)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w; gqa-train doctor says more", name, err)
	}
	return d, nil
}

func openAuto() device.Device {
	if !GPUs {
		return cpu.New()
	}
	d, err := openGPU(0)
	if err != nil {
		slog.Info("computing on the processor; gqa-train doctor says more", "no_gpu", err)
		return cpu.New()
	}
	return d
}

// ErrBuild says how to get a build that uses GPUs.
var ErrBuild = errors.New("this build computes on the processor alone: for NVIDIA GPUs build it with CGO_ENABLED=0 go install -tags cuda ./cmd/... on Linux")
