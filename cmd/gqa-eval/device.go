package main

import (
	"github.com/spf13/pflag"

	"gqa/internal/cli"
	"gqa/internal/devices"
)

// addDevice defines the flag for what runs the model.
func addDevice(f *pflag.FlagSet, device *string) {
	cli.CheckedVar(f, device, "device", devices.Auto, "where to compute: "+devices.Choices, devices.Check)
}
