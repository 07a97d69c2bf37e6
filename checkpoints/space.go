package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckSpace is an error if the disk that path is on, or will be, has fewer than need
// bytes free for this user. Where the system does not tell, it is not.
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
		return fmt.Errorf("%s: takes %s on the disk, which has %s free; make room, or write to another disk", path, byteText(need), byteText(free))
	}
	return nil
}

// byteText is a number of bytes for people, in units of 1000.
func byteText(n int64) string {
	value, unit := float64(n), 0
	units := []string{"bytes", "KB", "MB", "GB", "TB", "PB", "EB"}
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.4g %s", value, units[unit])
}
