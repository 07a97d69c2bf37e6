package checkpoints

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDigests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "abc", "b/c": "", "d": strings.Repeat("x", 3<<20)} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	digests, err := Digests(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Digest{3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"} // FIPS 180-2, appendix B.1
	if len(digests) != 3 || digests["a"] != want || digests["b/c"].Bytes != 0 || digests["d"].Bytes != 3<<20 {
		t.Errorf("digests are %v", digests)
	}
	if err := Verify(t.Context(), dir, digests); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Verify(ctx, dir, digests); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestVerifyNamesTheFile(t *testing.T) {
	for want, spoil := range map[string]func(path string) error{
		"a is missing":                     os.Remove,
		"a has 2 bytes, want 3 as written": func(path string) error { return os.Truncate(path, 2) },
		"a is damaged":                     func(path string) error { return os.WriteFile(path, []byte("abd"), 0o666) },
		"is a folder":                      func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o777)) },
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a")
		if err := os.WriteFile(path, []byte("abc"), 0o666); err != nil {
			t.Fatal(err)
		}
		digests, err := Digests(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), dir, digests); err == nil || want != "is a folder" && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := Verify(t.Context(), t.TempDir(), map[string]Digest{"../a": {}}); err == nil || !strings.Contains(err.Error(), "points outside") {
		t.Errorf("a name that leads out: %v", err)
	}
}
