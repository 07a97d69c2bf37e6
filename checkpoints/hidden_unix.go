//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package checkpoints

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// hold locks a file or folder for this process, until release or the end of the process.
func hold(path string) (release func()) {
	f, err := os.Open(path)
	if err != nil {
		return func() {}
	}
	holdFile(f)
	return func() { f.Close() }
}

// holdFile is hold of an open file, until it is closed. Others look at a lock for a moment, or hold that of a folder while
// they rename what is in it; where the file system has no locks, or one is not to be had, there is none.
func holdFile(f *os.File) {
	const tries, pause = 500, 10 * time.Millisecond
	for range tries {
		if err := flock(f, syscall.LOCK_EX); !errors.Is(err, syscall.EWOULDBLOCK) {
			return
		}
		time.Sleep(pause)
	}
}

// flock does not wait.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}

// isLocked reports whether a process holds path; known is false where that cannot be found out.
func isLocked(path string) (locked, known bool) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() { // a pipe might never open
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

// alive reports whether there is a process of that pid.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
