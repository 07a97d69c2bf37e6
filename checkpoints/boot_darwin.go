package checkpoints

import "golang.org/x/sys/unix"

// bootID is another after each start of the system.
func bootID() string {
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return id
}
