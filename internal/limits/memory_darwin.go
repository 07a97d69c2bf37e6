package limits

import "golang.org/x/sys/unix"

// free returns the size of the machine's memory in bytes: macOS frees memory as needed.
func free() float64 {
	if size, err := unix.SysctlUint64("hw.memsize"); err == nil {
		return float64(size)
	}
	return unknown
}
