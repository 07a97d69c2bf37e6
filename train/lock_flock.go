//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package train

import (
	"os"
	"syscall"
)

// errLocked is flock's error if another process has the lock.
const errLocked = syscall.EWOULDBLOCK

// flock locks a file until it is closed, for this process alone or shared. It does not wait.
func flock(file *os.File, exclusive bool) error {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	return syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
}
