//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package checkpoints

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// lockPath locks a file or folder until release is called or the process exits.
func lockPath(path string) (release func()) {
	f, err := os.Open(path)
	if err != nil {
		return func() {}
	}
	lockFile(f)
	return func() { f.Close() }
}

// lockFile locks an open file until it is closed. Other processes hold a lock only briefly, to test it or, on a folder,
// while they rename its entries. If the file system has no locks, or the lock cannot be acquired, the file stays
// unlocked.
func lockFile(f *os.File) {
	const tries, pause = 500, 10 * time.Millisecond
	for range tries {
		if err := flock(f, syscall.LOCK_EX); !errors.Is(err, syscall.EWOULDBLOCK) {
			return
		}
		time.Sleep(pause)
	}
}

// flock does not block.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}

// isLocked reports whether another process has locked path; known is false if that cannot be determined.
func isLocked(path string) (locked, known bool) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() { // opening a pipe might block
		return false, false
	}
	f, err := os.Open(path)
	if err != nil {
		return false, false
	}
	defer f.Close()
	err = flock(f, syscall.LOCK_SH)
	return errors.Is(err, syscall.EWOULDBLOCK), err == nil || errors.Is(err, syscall.EWOULDBLOCK)
}

// alive reports whether there is a process with that pid.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
