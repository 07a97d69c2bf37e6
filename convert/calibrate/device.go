package calibrate

import (
	"log/slog"

	"gqa/internal/device"
	"gqa/internal/devices"
)

// Device is what runs a model.
type Device = device.Device

// OpenDevice opens a device by its name, and logs which one it is unless it is the processor: auto, cpu, cuda or cuda:N. An
// empty name means cpu.
func OpenDevice(name string) (Device, error) {
	d, err := devices.Open(name, devices.Options{})
	if err != nil {
		return nil, err
	}
	if named, ok := d.(device.Namer); ok {
		slog.Info("computing on " + named.Name())
	}
	return d, nil
}
