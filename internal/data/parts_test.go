package data

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gqa/internal/tokenizer"
)

// setMaxPart makes documents come in small parts during a test.
func setMaxPart(t *testing.T, n int) {
	old := maxPart
	t.Cleanup(func() { maxPart = old })
	maxPart = n
}

func TestCut(t *testing.T) {
	for _, c := range []struct{ text, first string }{
		{"one two 3\nfour five six", "one two 3\n"},
		{"one\n\ntwo\n three\nfour five", "one\n\ntwo\n three\n"},
		{"one two\n\nthree four five six", "one two\n\n"},
		{"one two th ree four", "one two th"},
		{"ééééééééééééé", "éééééééé"},
		{"a€€€€€€€€€€€€", "a€€€€€"},
		{strings.Repeat("\x80", 30), strings.Repeat("\x80", 16)},
	} {
		most := min(16, len(c.text)-1)
		if strings.HasPrefix(c.text, "one\n\n") {
			most = 20
		}
		if n := cut([]byte(c.text), most); c.text[:n] != c.first {
			t.Errorf("%q is cut to %q, want %q", c.text, c.text[:n], c.first)
		}
	}
}

// Documents read in parts have the same IDs as when read as a whole, with every kind of tokenizer, if their
// lines are shorter than half a part.
func TestPartsHaveTheSameIDs(t *testing.T) {
	lines := "package main\n\nimport \"fmt\"\n\n// the world of ab ba\nfunc main() {\n\tfmt.Println(\"hello, 123 the world\")\n" +
		"  indented café\nthe (on) X\n\n\n日本 text\nIt's we'll\nlast the <s> word\n"
	doc := strings.Repeat(lines, 20)
	corpus := corpusFromBytes("doc", []byte(doc+separator+"short"+separator+doc[:700]))
	paths, err := filepath.Glob("../tokenizer/testdata/tokenizers/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no tokenizers: %v", err)
	}
	setMaxPart(t, maxPart)
	for _, path := range append(paths, gopher) {
		tok, err := tokenizer.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		maxPart = 1 << 20
		want, err := corpus.Tokens(t.Context(), &encoder{tok: tok}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{150, 333, 1000} {
			maxPart = n
			if got, err := corpus.Tokens(t.Context(), &encoder{tok: tok}, 0); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: parts of %d bytes have %d ids, %v; the documents have %d", path, n, len(got), err, len(want))
			}
		}
	}
}

// endless is a file that repeats a text for ever and counts what is read of it.
type endless struct {
	text string
	read int
}

func (e *endless) Close() error { return nil }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.text[(e.read+i)%len(e.text)]
	}
	e.read += len(p)
	return len(p), nil
}

func endlessCorpus(kind, text string) (*textCorpus, *endless) {
	e := &endless{text: text}
	return &textCorpus{name: "endless", files: []source{{
		name: "endless" + kind, kind: kind, size: 1 << 40, open: func([]string) (io.ReadCloser, error) { return e, nil },
	}}}, e
}

// An endless document is read no further than needed for the requested tokens.
func TestEndlessDocument(t *testing.T) {
	tok := loadGopher(t)
	for kind, text := range map[string]string{
		".txt":   "the same line\n",
		".go":    "xxxxxxxx",
		".jsonl": "{\"text\": \"a line\"}\n",
		".json":  "[\"a\", \"b\"]\n",
	} {
		c, e := endlessCorpus(kind, text)
		ids, err := c.Tokens(t.Context(), &encoder{tok: tok}, 4000)
		if err != nil || len(ids) != 4000 {
			t.Errorf("%s: %d ids, %v", kind, len(ids), err)
		}
		if e.read > 512<<20 {
			t.Errorf("%s: %d bytes read", kind, e.read)
		}
	}
}

// Reading stops soon after its context ends, even if it produces nothing.
func TestEndlessCancelled(t *testing.T) {
	tok := loadGopher(t)
	for kind, text := range map[string]string{".txt": separator, ".jsonl": "\n", ".json": "{\"text\":null}\n"} {
		c, _ := endlessCorpus(kind, text)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begin := time.Now()
		_, err := c.Tokens(ctx, &encoder{tok: tok}, 0)
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
			t.Errorf("%s: %v after %v", kind, err, took)
		}
		cancel()
	}
}
