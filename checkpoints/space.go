package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckSpace returns an error if the disk of path, which need not exist, has fewer than need bytes free for this user.
// It returns nil where the free space is unknown.
func CheckSpace(path string, need int64) error {
	disk, err := realPath(path)
	if err != nil {
		return err
	}
	for {
		if _, err := os.Stat(disk); !errors.Is(err, fs.ErrNotExist) || disk == filepath.Dir(disk) {
			break
		}
		disk = filepath.Dir(disk)
	}
	free, ok := freeBytes(disk)
	if ok && free < need {
		return fmt.Errorf("%s: needs %s of disk space, but %s is free; make room, or write to another disk", path, byteText(need), byteText(free))
	}
	return nil
}

// byteText formats n bytes in decimal units (kB, MB, ...).
func byteText(n int64) string {
	value, unit := float64(n), 0
	units := []string{"bytes", "KB", "MB", "GB", "TB", "PB", "EB"}
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.4g %s", value, units[unit])
}
