package limits

import "golang.org/x/sys/unix"

// free is the machine's memory in bytes, which macOS makes room in by itself.
func free() float64 {
	if size, err := unix.SysctlUint64("hw.memsize"); err == nil {
		return float64(size)
	}
	return unknown
}
