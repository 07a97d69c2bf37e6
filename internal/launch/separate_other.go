//go:build !linux

package launch

import "os/exec"

// separate does nothing: GPUs are used on Linux only.
func separate(*exec.Cmd) {}
