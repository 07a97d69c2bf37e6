// Package devices opens devices by the names that the flag --device takes.
package devices

import (
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

// Check returns an error if name is none of a device.
func Check(name string) error {
	switch name {
	case "", Auto, CPU, CUDA:
		return nil
	}
	if n, ok := strings.CutPrefix(name, CUDA+":"); ok {
		if _, err := strconv.ParseUint(n, 10, 8); err == nil {
			return nil
		}
	}
	return fmt.Errorf("unknown device %q: want %s", name, Names)
}

// Options are what a GPU does otherwise than the processor, which computes in F32 and always gives the same bits.
type Options struct {
	Activations      device.Format // F32 or BF16
	Nondeterministic bool          // faster operations may give other bits each time
}

// Open returns a device; no name at all is the processor.
func Open(name string, o Options) (device.Device, error) {
	if err := Check(name); err != nil {
		return nil, err
	}
	switch name {
	case "", CPU:
		return cpu.New(), nil
	case Auto:
		d, err := openGPU(0, o)
		if err != nil {
			slog.Debug("no GPU is used", "reason", err)
			return cpu.New(), nil
		}
		return d, nil
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(name, CUDA), ":"))
	return openGPU(n, o)
}
