package checkpoints

import "os"

// bootID is another after each start of the system.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(id)
}
