//go:build unix

package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gqa/internal/file"
)

// A pipe is not read, because opening it might block forever, and neither is a file larger than any report.
func TestReadRefusesWhatIsNoReport(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, File)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{dir, path} {
		if _, err := Read(name); !errors.Is(err, file.ErrNotRegular) {
			t.Errorf("a pipe: %v", err)
		}
	}
	large := filepath.Join(dir, "large.json")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(large); err == nil || !strings.Contains(err.Error(), "is larger than 67108864 bytes") {
		t.Errorf("a large file: %v", err)
	}
}
