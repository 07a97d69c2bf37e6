package train

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// isLocked reports whether a process holds the lock that a file represents. It changes nothing.
func isLocked(path string) (bool, error) {
	if err := checkLock(path); err != nil {
		return false, err
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	err = lockFirst(file, 0)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return true, nil
	}
	return false, err
}

// tryLock takes the lock that a file represents. held reports whether another process has it. The lock is released when
// its process ends.
func tryLock(path string) (release func(), held bool, err error) {
	if err := checkLock(path); err != nil {
		return nil, false, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, false, err
	}
	err = lockFirst(file, windows.LOCKFILE_EXCLUSIVE_LOCK)
	if err != nil {
		file.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			return nil, true, nil
		}
		return nil, false, err
	}
	return func() { file.Close() }, false, nil
}

// lockFirst locks the first byte of a file until it is closed. It does not wait.
func lockFirst(file *os.File, how uint32) error {
	return windows.LockFileEx(windows.Handle(file.Fd()), how|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
}
