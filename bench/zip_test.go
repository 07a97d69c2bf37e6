package bench

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// TestModuleZip builds the module's zip as the module proxy would: no file name that some system cannot have, no two that differ
// in case alone, nothing beyond the size limits. Only what git knows of goes into it.
func TestModuleZip(t *testing.T) {
	files := workTree(t)
	checked, err := zip.CheckFiles(files)
	if err == nil {
		err = checked.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range checked.Invalid {
		t.Errorf("%s: %v", bad.Path, bad.Err)
	}
	// A proxy wants a path with a dot; ours has none.
	t.Logf("%d files, %d bytes", len(checked.Valid), len(zipped(t, files, "example.com/gqa", "v1.0.0")))
}

// workTree lists the files that git knows of, or would add.
func workTree(t *testing.T) (files []zip.File) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	listed, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skip("no git work tree: ", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(listed), "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
			files = append(files, file{root, name})
		}
	}
	return files
}

// zipped returns the zip of a module.
func zipped(t *testing.T, files []zip.File, path, version string) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := zip.Create(&out, module.Version{Path: path, Version: version}, files); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// file is one of the work tree.
type file struct{ root, name string }

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(filepath.Join(f.root, f.name)) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(f.root, f.name)) }
