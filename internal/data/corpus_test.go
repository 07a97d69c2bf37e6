package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/internal/tokenizer"
)

// tree writes files below a new folder. Names that end in .gz are compressed.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		data := []byte(text)
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write(data)
			z.Close()
			data = b.Bytes()
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func documents(c *textCorpus) (docs []string, err error) {
	for part, e := range c.Parts(context.Background()) {
		if e != nil {
			return docs, e
		}
		if part.bad != nil {
			return docs, fmt.Errorf("corpus %w", part.bad)
		}
		if !part.Resumes {
			docs = append(docs, "")
		}
		docs[len(docs)-1] += part.Text
	}
	return docs, nil
}

func TestDocuments(t *testing.T) {
	root := tree(t, map[string]string{
		"a.txt":          "one<|endoftext|><|endoftext|>\ntwo<|endoftext|>",
		"b.jsonl":        "{\"text\":\"three\"}\r\n\n{\"id\":7,\"text\":\"\"}\n{\"text\":\"fo\\nur\"}",
		"c.txt.gz":       "five<|endoftext|>six",
		"d.jsonl.gz":     "{\"text\":\"seven\"}\n",
		"e/x.go":         "package x // <|endoftext|>\n",
		"e/y.md":         "# y",
		"f/empty.txt":    "",
		"g/mark.jsonl":   "\ufeff{\"text\":\"\ufeffeight\"}\n",
		"g/mark.txt":     "\ufeffnine" + separator + "\ufefften",
		"g/mark.go.gz":   "\ufeffpackage y",
		"g/only.txt":     "\ufeff",
		"e/picture.png":  "no",
		".git/config":    "no",
		".hidden.txt":    "no",
		"e/.cache/a.txt": "no",
	})
	for path, want := range map[string][]string{
		"a.txt":        {"one", "\ntwo"},
		"b.jsonl":      {"three", "fo\nur"},
		"c.txt.gz":     {"five", "six"},
		"d.jsonl.gz":   {"seven"},
		"g/mark.go.gz": {"package y"},
		"e":            {"package x // <|endoftext|>\n", "# y"},
		"e/x.go":       {"package x // <|endoftext|>\n"},
		"f":            nil,
		"g":            {"\ufeffeight", "nine", "\ufefften"}, // only a file's first character is a mark
		".": {
			"one", "\ntwo", "three", "fo\nur", "five", "six", "seven",
			"\ufeffeight", "nine", "\ufefften",
		},
	} {
		c, err := openCorpus(t.Context(), filepath.Join(root, path), "")
		if err != nil {
			t.Fatal(err)
		}
		if c.Name() != filepath.Join(root, path) {
			t.Errorf("%s: Name() = %q", path, c.Name())
		}
		for range 2 { // it can be read again
			if got, err := documents(c); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
			}
		}
	}
}

// A warning about invalid UTF-8 is logged once and names the file; the documents are still read.
func TestNotUTF8(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	root := tree(t, map[string]string{
		"good/a.txt":   "caf\u00e9 \U0001f600 \ufffd" + separator + "x",
		"bad/a.txt":    "good",
		"bad/b.jsonl":  "{\"text\":\"fine\"}\n{\"text\":\"caf\xe9\"}\n",
		"bad/c.txt.gz": "caf\xe9" + separator + "caf\xe9",
	})
	for name, want := range map[string]struct {
		docs int
		file string
	}{
		"good": {2, ""}, "bad": {5, "bad/b.jsonl"}, "bad/c.txt.gz": {2, "bad/c.txt.gz"},
	} {
		log.Reset()
		c, err := openCorpus(t.Context(), filepath.Join(root, name), "")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := documents(c); err != nil || len(got) != want.docs {
				t.Errorf("%s: got %q, %v, want %d documents", name, got, err, want.docs)
			}
		}
		if want.file == "" {
			if log.Len() > 0 {
				t.Errorf("%s: warned: %s", name, &log)
			}
			continue
		}
		if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, want.file) {
			t.Errorf("%s: the log is %q, want one warning of %s", name, got, want.file)
		}
	}
}

// A document longer than any buffer, with a separator across its edge, stays whole.
func TestLongDocuments(t *testing.T) {
	for n := 65500; n < 65540; n += 3 {
		doc := strings.Repeat("x", n)
		got, err := documents(corpusFromBytes("long", []byte(doc+separator+doc)))
		if err != nil || !slices.Equal(got, []string{doc, doc}) {
			t.Fatalf("n=%d: %d documents, %v", n, len(got), err)
		}
	}
}

func TestCorpusErrors(t *testing.T) {
	root := tree(t, map[string]string{
		"a.parquet":     "PAR1",
		"none/a.png":    "x",
		"text.jsonl":    "{\"text\":\"a\"}\n{\"txt\":\"b\"}\n",
		"broken.jsonl":  "{\"text\":",
		"notzip/a.txt":  "not compressed",
		"missing/b.txt": "x",
	})
	if err := os.Rename(filepath.Join(root, "notzip/a.txt"), filepath.Join(root, "notzip/a.txt.gz")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a.parquet":       "the file is only a part of one of Parquet: it has 4 bytes",
		"none":            "no file of a known kind",
		"nowhere.txt":     "no such file",
		"text.jsonl":      `line 2: the record has no "text"; its keys are "txt"`,
		"broken.jsonl":    "line 1: unexpected end",
		"notzip/a.txt.gz": "invalid header",
	} {
		c, err := openCorpus(t.Context(), filepath.Join(root, path), "")
		if err == nil {
			c.badRows = -1
			_, err = c.Tokens(t.Context(), &encoder{tok: loadGopher(t)}, 0)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got error %v, want one with %q and the path", path, err, want)
		}
	}
}

func TestTokens(t *testing.T) {
	tok := loadGopher(t)
	var txt strings.Builder
	var want []int32
	for i := range 200 {
		doc := strings.Repeat("package main\n", (i*37)%50)
		txt.WriteString(doc + separator)
		if doc != "" {
			want = append(append(want, must(tok.Encode)(doc)...), 0)
		}
	}
	c := corpusFromBytes("many", []byte(txt.String()))
	for _, max := range []int{0, 1, 100, len(want) - 1, len(want), len(want) + 1} {
		expected := want
		if max > 0 && max < len(want) {
			expected = want[:max]
		}
		got, err := c.Tokens(t.Context(), &encoder{tok: tok}, max)
		if err != nil || !slices.Equal(got, expected) {
			t.Errorf("max=%d: %d tokens, %v, want %d", max, len(got), err, len(expected))
		}
	}
}

func TestTokensCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := corpusFromBytes("many", bytes.Repeat([]byte("a"+separator), 1000))
	if _, err := c.Tokens(ctx, &encoder{tok: loadGopher(t)}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

// gopher is the embedded sample's folder.
const gopher = "../../checkpoints/sample/gopher-4m"

// loadGopher loads the tokenizer of the embedded sample.
func loadGopher(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load(gopher)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// must wraps a tokenizer's method that is not expected to fail.
func must[A, B any](method func(A) (B, error)) func(A) B {
	return func(a A) B {
		b, err := method(a)
		if err != nil {
			panic(err)
		}
		return b
	}
}
