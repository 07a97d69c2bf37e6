package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)

// pack writes files in the given order, with the given mode, and returns an archive of them.
func pack(t *testing.T, names []string, mode os.FileMode, write func(io.Writer, []entry, time.Time) error) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "gqa_v1")
	file := filepath.Join(t.TempDir(), "archive")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("text of "+name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeArchive(file, dir, at, write); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestArchives: the bytes of an archive depend on the contents of the files alone.
func TestArchives(t *testing.T) {
	names := []string{"LICENSE", "README.md", "gqa-convert", "gqa-eval"}
	backwards := slices.Clone(names)
	slices.Reverse(backwards)
	for kind, write := range map[string]func(io.Writer, []entry, time.Time) error{"tar": writeTar, "zip": writeZip} {
		first := pack(t, names, 0o644, write)
		if !bytes.Equal(first, pack(t, backwards, 0o755, write)) {
			t.Errorf("%s: two archives of the same files differ", kind)
		}
		if bytes.Equal(first, pack(t, names[1:], 0o644, write)) {
			t.Errorf("%s: archives of other files are equal", kind)
		}
	}
	var got []string
	z, err := gzip.NewReader(bytes.NewReader(pack(t, names, 0o600, writeTar)))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || !h.ModTime.Equal(at) {
			t.Fatal(h, err)
		}
		got = append(got, h.FileInfo().Mode().String()+" "+h.Name)
	}
	text := pack(t, names, 0o600, writeZip)
	r, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	var zipped []string
	for _, f := range r.File {
		zipped = append(zipped, f.Mode().String()+" "+f.Name)
	}
	want := []string{"-rw-r--r-- gqa_v1/LICENSE", "-rw-r--r-- gqa_v1/README.md", "-rwxr-xr-x gqa_v1/gqa-convert", "-rwxr-xr-x gqa_v1/gqa-eval"}
	if !slices.Equal(got, want) || !slices.Equal(zipped, want) {
		t.Errorf("tar %q, zip %q, want %q", got, zipped, want)
	}
}

func TestSums(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("abc"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeSums(filepath.Join(dir, sumsFile), dir, []string{"b", "a"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, sumsFile))
	const sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2, appendix B.1
	if want := sum + "  a\n" + sum + "  b\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v, want %q", text, err, want)
	}
}

func TestUsage(t *testing.T) {
	for _, version := range []string{"", "1.2.3", "v1.2", "v1.2.3+x", "latest"} {
		if err := run(t.Context(), version, t.TempDir(), targets, true); err == nil || !strings.Contains(err.Error(), "want one such as v1.2.3") {
			t.Errorf("version %q: %v", version, err)
		}
	}
	if err := run(t.Context(), "v1.2.3", t.TempDir(), []string{"plan9/386"}, true); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("an unknown target: %v", err)
	}
}
