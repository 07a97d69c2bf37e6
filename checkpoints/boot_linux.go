package checkpoints

import "os"

// bootID returns an identifier that changes whenever the system is booted.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(id)
}
