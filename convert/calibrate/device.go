package calibrate

import (
	"gqa/internal/device"
	"gqa/internal/devices"
)

// Device is what runs a model.
type Device = device.Device

// OpenDevice opens a device by its name: auto, cpu, cuda or cuda:N. An empty name means cpu.
func OpenDevice(name string) (Device, error) { return devices.Open(name, devices.Options{}) }

// CloseDevice frees a device's memory. A nil device has none.
func CloseDevice(d Device) { device.Close(d) }
