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

// Options are what a GPU does otherwise than the processor, which computes in F32 and always gives the same bits.
type Options struct {
	Activations      device.Format // F32 or BF16
	Nondeterministic bool          // faster operations may give other bits each time
}

// Open returns a device; no name at all is the processor.
func Open(name string, o Options) (device.Device, error) {
	if err := Check(name); err != nil {
		return nil, fmt.Errorf("device is %q, %w", name, err)
	}
	switch name {
	case "", CPU:
		return cpu.New(), nil
	case Auto:
		return openAuto(o), nil
	}
	n, _ := number(name)
	d, err := openGPU(n, o)
	if err != nil {
		return nil, GPUError{name, err}
	}
	return d, nil
}

func openAuto(o Options) device.Device {
	if !GPUs {
		return cpu.New()
	}
	d, err := openGPU(0, o)
	if err != nil {
		slog.Info("computing on the processor, as no GPU can be used", "reason", err)
		return cpu.New()
	}
	return d
}

// GPUError says why a GPU that was asked for cannot be used.
type GPUError struct {
	Name string // of the device
	Err  error
}

// Error names the device.
func (e GPUError) Error() string { return fmt.Sprintf("device %s: %v", e.Name, e.Err) }

// Unwrap returns the wrapped error.
func (e GPUError) Unwrap() error { return e.Err }

// ErrBuild says how to get a build that uses GPUs.
var ErrBuild = errors.New("this build computes on the processor alone: for NVIDIA GPUs build it with CGO_ENABLED=0 go install -tags cuda ./cmd/... on Linux")
