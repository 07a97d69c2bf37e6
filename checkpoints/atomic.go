package checkpoints

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"gqa/internal/file"
)

// WriteFileAtomic writes data to path so that path holds, whatever happens, either
// what it held before or all of data. perm is before the umask. What is there must be a
// regular file. What killed processes left of earlier calls is removed.
func WriteFileAtomic(path string, data []byte, perm os.FileMode) error {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s: is a link; name the file that it leads to", path)
		}
		if err := file.Check(path, info); err != nil {
			return err
		}
	}
	if err := RemoveLeftovers(path); err != nil {
		return err
	}
	temp := besides(path, tmpKind)
	if err := writeSynced(temp, data, perm); err != nil {
		os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return syncPath(filepath.Dir(path))
}

func writeSynced(path string, data []byte, perm os.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	holdFile(f)
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// syncPath makes a file's bytes, or a folder's entries, survive a power cut, where the
// system can: Windows syncs only what is open for writing, and some network file
// systems do not sync folders.
func syncPath(path string) (err error) {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}
