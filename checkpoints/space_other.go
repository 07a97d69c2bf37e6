//go:build !darwin && !freebsd && !linux && !windows

package checkpoints

// freeBytes returns the space that this user may still write on the disk of path; ok is false where that is unknown.
func freeBytes(string) (n int64, ok bool) { return 0, false }
