//go:build darwin || freebsd || linux

package checkpoints

import (
	"math"

	"golang.org/x/sys/unix"
)

// freeBytes returns the space that this user may still write on the disk of path; ok is false where that is unknown.
func freeBytes(path string) (n int64, ok bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil || s.Blocks == 0 { // some file systems report no size
		return 0, false
	}
	return int64(min(max(0, float64(s.Bavail))*float64(s.Bsize), math.MaxInt64/2)), true
}
