package file

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestReason(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	for path, want := range map[string]error{dir: ErrNotRegular, gone: fs.ErrNotExist} {
		_, err := Open(path)
		if got := Reason(path, err); !errors.Is(got, want) || strings.Contains(got.Error(), path) {
			t.Errorf("%v became %v", err, got)
		}
		if got := Reason("another", err); got != err {
			t.Errorf("%v became %v, though it is of another file", err, got)
		}
	}
	if err := Reason(dir, nil); err != nil {
		t.Error(err)
	}
}
