// Package devices opens devices by the names that the flag --device accepts.
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
	Auto = "auto" // the first GPU if this build and the machine have one, otherwise the processor
	CPU  = "cpu"
	CUDA = "cuda"
)

// Names describes the names for errors, and Choices for help.
const (
	Names   = "auto, cpu, cuda or cuda:N"
	Choices = "cpu, cuda (the first NVIDIA GPU), cuda:N (number N, from 0), or auto (the first GPU if there is one, otherwise the processor)"
)

// Check returns an error if name is not a device's name, or is a GPU's and this build does not use GPUs. The error text
// continues `device is "x", `.
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

// number returns the number of the GPU with a name.
func number(name string) (n int, ok bool) {
	if name == CUDA {
		return 0, true
	}
	text, ok := strings.CutPrefix(name, CUDA+":")
	u, err := strconv.ParseUint(text, 10, 8)
	return int(u), ok && err == nil
}

// Options are the ways in which a GPU can differ from the processor, which computes in F32 and always gives the same
// bits.
type Options struct {
	Activations      device.Format // F32 or BF16
	Nondeterministic bool          // faster operations, which may give different bits each time
}

// Open returns a device, and logs which one it is unless it is the processor. An empty name means the processor.
func Open(name string, o Options) (device.Device, error) {
	d, err := open(name, o)
	if named, ok := d.(device.Namer); ok && err == nil {
		slog.Info("computing on " + named.Name())
	}
	return d, err
}

func open(name string, o Options) (device.Device, error) {
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

// Share returns the device that process number local of a machine takes, of those that share a name: each has a GPU of its own. The
// error text continues `device is "x", `.
func Share(name string, local int) (string, error) {
	switch {
	case name == "" || name == CPU:
		return CPU, nil
	case name != Auto && name != CUDA:
		return "", fmt.Errorf("want %s, %s or %s: each of a machine's processes takes a GPU of its own", Auto, CPU, CUDA)
	}
	n, err := countGPUs()
	switch {
	case err != nil || n == 0:
		return name, nil // opening it says why not, or takes the processor
	case n == 1:
		return CUDA, nil // a launcher may show each process no GPU but its own
	case local >= n:
		return "", fmt.Errorf("but this is process %d of this machine, counted from 0, which has %d GPUs", local, n)
	}
	return fmt.Sprintf("%s:%d", CUDA, local), nil
}

// GPUError reports why a requested GPU cannot be used.
type GPUError struct {
	Name string // of the device
	Err  error
}

// Error names the device.
func (e GPUError) Error() string { return fmt.Sprintf("device %s: %v", e.Name, e.Err) }

// Unwrap returns the wrapped error.
func (e GPUError) Unwrap() error { return e.Err }

// ErrBuild describes how to get a build that uses GPUs.
var ErrBuild = errors.New("this build computes on the processor only: for NVIDIA GPUs build it with CGO_ENABLED=0 go install -tags cuda ./cmd/... on Linux")
