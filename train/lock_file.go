//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows

package train

import (
	"errors"
	"io/fs"
	"os"
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
	err = flock(file, false)
	if errors.Is(err, errLocked) {
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
	err = flock(file, true)
	if err != nil {
		file.Close()
		if errors.Is(err, errLocked) {
			return nil, true, nil
		}
		return nil, false, err
	}
	return func() { file.Close() }, false, nil
}
