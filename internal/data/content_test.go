package data

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that holds something else than its name says is an error that says what it is.
func TestOtherContent(t *testing.T) {
	pointer := "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
	for name, c := range map[string]struct{ content, want string }{
		"pointer.jsonl":    {pointer, "the file is a pointer of Git LFS, not the file itself; fetch it: git lfs pull"},
		"pointer.txt":      {pointer, "the file is a pointer of Git LFS"},
		"zipped.txt.gz":    {pointer, "the file is a pointer of Git LFS"},
		"gzip.jsonl":       {"\x1f\x8b\x08\x00", "the file is compressed by gzip; add .gz to its name"},
		"gzip.py":          {"\x1f\x8b\x08\x00", "the file is compressed by gzip; add .gz to its name"},
		"parquet.ndjson":   {"PAR1\x15\x04", `the file holds Parquet; write it as .jsonl: datasets.load_dataset("parquet"`},
		"zstd.txt":         {"\x28\xb5\x2f\xfd", "the file is compressed by zstd; decompress it: zstd -d"},
		"page.jsonl":       {"<!DOCTYPE html>", `the file is not JSON: '<' where a record is wanted, an object with "text" or a string`},
		"number.jsonl":     {"12", `a record is a number, want an object with "text", or a string`},
		"notzipped.txt.gz": {"-", "though its name ends in .gz"},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		corpus, err := openCorpus(t.Context(), path, "")
		if err == nil {
			_, err = documents(corpus)
		}
		if err == nil || !strings.HasPrefix(err.Error(), "corpus "+path+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// What a text may begin with is no other kind.
func TestTextsThatBeginLikeOthers(t *testing.T) {
	for _, s := range []string{"PAR1", "BZh", "version 1", "PK", ""} {
		corpus, err := openCorpus(t.Context(), filepath.Join(tree(t, map[string]string{"a.txt": s}), "a.txt"), "")
		if err != nil {
			t.Fatal(err)
		}
		if docs, err := documents(corpus); err != nil || strings.Join(docs, "") != s {
			t.Errorf("%q: %q, %v", s, docs, err)
		}
	}
}
