package checkpoints

import (
	"math"

	"golang.org/x/sys/windows"
)

// freeBytes returns the space that this user may still write on the disk of path; ok is false where that is unknown.
func freeBytes(path string) (n int64, ok bool) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, false
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(name, &free, nil, nil)
	return int64(min(free, math.MaxInt64)), err == nil
}
