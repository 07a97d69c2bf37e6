package limits

import (
	"bytes"
	"fmt"
	"os"
)

// free returns the number of bytes that the system can provide without swapping.
func free() float64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return unknown
	}
	for line := range bytes.Lines(text) {
		var kib float64
		if n, _ := fmt.Sscanf(string(line), "MemAvailable: %f kB", &kib); n == 1 {
			return 1024 * kib
		}
	}
	return unknown
}
