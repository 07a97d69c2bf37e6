// Package file opens files named by users. It accepts only regular files: opening a pipe might block, and reading a
// device might never end.
package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrNotRegular is wrapped by the error for a path that is not a regular file.
var ErrNotRegular = errors.New("want a regular file")

// Open opens a regular file, or the target of a link to one, for reading. For a folder, pipe, socket or device it
// returns an error that wraps ErrNotRegular and says which it is.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := Check(path, info); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Read returns the contents of a regular file; see [Open].
func Read(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ReadMax is like Read, but returns an error, without reading the file, if it is larger than limit bytes.
func ReadMax(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1)) // the file may grow while it is read
	if err == nil && int64(len(text)) > limit {
		return nil, fmt.Errorf("%s: is larger than %d bytes, the limit for a file of its kind", path, limit)
	}
	return text, err
}

// Reason returns the reason why path could not be read, without its name, for an error that adds the name itself.
func Reason(path string, err error) error {
	var other *irregular
	if errors.As(err, &other) && other.path == path {
		return other.reason
	}
	var failed *fs.PathError
	if errors.As(err, &failed) && failed.Path == path {
		return failed.Err
	}
	return err
}

// irregular is the error for a path that is not a regular file.
type irregular struct {
	path   string
	reason error
}

func (e *irregular) Error() string { return e.path + ": " + e.reason.Error() }
func (e *irregular) Unwrap() error { return e.reason }

// Check returns an error that wraps ErrNotRegular unless info, which describes path, is that of a regular file.
func Check(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return &irregular{path, fmt.Errorf("is %s; %w", kind(info.Mode()), ErrNotRegular)}
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "not a regular file"
}
