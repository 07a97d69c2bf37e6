package train

import (
	"os"

	"golang.org/x/sys/windows"
)

// errLocked is flock's error if another process has the lock.
const errLocked = windows.ERROR_LOCK_VIOLATION

// flock locks the first byte of a file until it is closed, for this process alone or shared. It does not wait.
func flock(file *os.File, exclusive bool) error {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	return windows.LockFileEx(windows.Handle(file.Fd()), how, 0, 1, 0, &windows.Overlapped{})
}
