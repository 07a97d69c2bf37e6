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

// WriteFileAtomic writes data to the file path atomically: whatever happens, path holds either its old contents or all
// of data. perm is before the umask. It is an error if path exists and is not a regular file. Temporary files left by
// earlier calls in killed processes are removed.
func WriteFileAtomic(path string, data []byte, perm os.FileMode) error {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s: is a symbolic link; name the file it points to", path)
		}
		if err := file.Check(path, info); err != nil {
			return err
		}
	}
	if err := RemoveLeftovers(path); err != nil {
		return err
	}
	temp := tempPath(path, tmpKind)
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
	lockFile(f)
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// syncPath syncs a file's data, or a directory's entries, to disk where the system supports it: Windows syncs only
// files open for writing, and some network file systems do not sync directories.
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
