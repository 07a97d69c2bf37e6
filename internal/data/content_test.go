package data

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file whose contents contradict its name is an error that says what it is.
func TestOtherContent(t *testing.T) {
	pointer := "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
	for name, c := range map[string]struct{ content, want string }{
		"pointer.jsonl":     {pointer, "the file is a pointer of Git LFS, not the file itself; fetch it: git lfs pull"},
		"pointer.txt":       {pointer, "the file is a pointer of Git LFS"},
		"zipped.txt.gz":     {pointer, "the file is a pointer of Git LFS"},
		"gzip.jsonl":        {"\x1f\x8b\x08\x00", "the file is compressed by gzip; add .gz to its name"},
		"gzip.py":           {"\x1f\x8b\x08\x00", "the file is compressed by gzip; add .gz to its name"},
		"parquet.ndjson":    {"PAR1\x15\x04", "the file holds Parquet; name it .parquet"},
		"zstd.txt":          {"\x28\xb5\x2f\xfd", "the file is compressed by zstd; add .zst to its name"},
		"page.jsonl":        {"<!DOCTYPE html>", `the file is not JSON: found '<', want a record: an object with "text" or a string`},
		"number.jsonl":      {"12", `a record is a number, want an object with "text", or a string`},
		"notzipped.txt.gz":  {"-", "though its name ends in .gz"},
		"notzipped.txt.zst": {"-", "though its name ends in .zst"},
		"pointer.parquet":   {pointer, "the file is a pointer of Git LFS"},
		"part.parquet":      {"PAR1 and no more of it", `the file is only a part of one of Parquet: it has 22 bytes and ends with "f it", want "PAR1"`},
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

// Texts may begin like files of other kinds.
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
