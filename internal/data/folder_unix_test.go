//go:build unix

package data

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gqa/internal/file"
	"gqa/internal/tokenizer"
)

// A pipe is not read: it might never open, or never end.
func TestPipes(t *testing.T) {
	root := tree(t, map[string]string{"a.txt": "a"})
	for _, name := range []string{"b.txt", "tokenizer.json"} {
		if err := syscall.Mkfifo(filepath.Join(root, name), 0o600); err != nil {
			t.Skip(err)
		}
	}
	if _, err := openCorpus(t.Context(), filepath.Join(root, "b.txt"), ""); !errors.Is(err, file.ErrNotRegular) {
		t.Errorf("a pipe as a corpus: %v", err)
	}
	if _, err := openCorpus(t.Context(), filepath.Join(root, "b.txt"), ""); err == nil || strings.Count(err.Error(), root) != 1 {
		t.Errorf("it does not name the file once: %v", err)
	}
	if _, err := tokenizer.Load(root); !errors.Is(err, file.ErrNotRegular) {
		t.Errorf("a pipe as a tokenizer: %v", err)
	}
	log := logged(t)
	c, err := openCorpus(t.Context(), root, "")
	if err != nil {
		t.Fatal(err)
	}
	if docs, err := documents(c); err != nil || !slices.Equal(docs, []string{"a"}) || !strings.Contains(log.String(), "b.txt, tokenizer.json") {
		t.Errorf("%q, %v, and says %s", docs, err, log)
	}
}
