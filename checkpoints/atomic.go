package checkpoints

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// WriteFileAtomic writes data to path so that path holds, whatever happens, either
// what it held before or all of data. perm is before the umask.
func WriteFileAtomic(path string, data []byte, perm os.FileMode) error {
	temp := besides(path, "tmp")
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
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// besides returns a new hidden name in the folder of path: on the same disk, so that
// renaming one to the other is atomic.
func besides(path, suffix string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, fmt.Sprintf(".%s.%s-%08x", base, suffix, rand.Uint32()))
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
