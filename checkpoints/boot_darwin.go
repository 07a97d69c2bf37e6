package checkpoints

import "golang.org/x/sys/unix"

// bootID returns an identifier that changes whenever the system is booted.
func bootID() string {
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return id
}
