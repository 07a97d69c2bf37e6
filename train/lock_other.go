//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

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
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// tryLock takes the lock that a file represents. held reports whether another process has it. After a crash the file
// remains and must be removed by hand.
func tryLock(path string) (release func(), held bool, err error) {
	if err := checkLock(path); err != nil {
		return nil, false, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	return func() { file.Close(); os.Remove(path) }, false, nil
}
