package text

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// separator stands between the documents of a .txt file.
	separator = "<|endoftext|>"
	// byteOrderMark is what some editors begin a UTF-8 file with; it is no text.
	byteOrderMark = "\uFEFF"
)

// Corpus is a sequence of documents, read as they are asked for.
type Corpus struct {
	name   string
	files  []file
	warned sync.Once // that it is not UTF-8
}

// file is one file of a corpus: open starts reading it, kind is its extension
// without .gz.
type file struct {
	name, kind string
	open       func() (io.ReadCloser, error)
}

// wholeFile are the kinds of which a file is one document.
var wholeFile = []string{
	".c", ".cc", ".cpp", ".cs", ".go", ".h", ".hpp", ".html", ".java", ".js", ".lua", ".md",
	".php", ".py", ".r", ".rb", ".rs", ".rst", ".scala", ".sh", ".sql", ".swift", ".tex", ".ts",
}

// OpenCorpus opens a text corpus. path is a .txt file, in which <|endoftext|>
// separates documents; a .jsonl file with a "text" in each line; a file of
// source code or prose, which is one document; any of them with .gz; or a folder
// of such files, taken in path order, hidden ones and other kinds left out.
func OpenCorpus(path string) (*Corpus, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("corpus %s: there is no such file or folder", path)
	}
	if err != nil {
		return nil, fmt.Errorf("corpus: %w", err)
	}
	c := &Corpus{name: path}
	if info.IsDir() {
		return c, c.walk(path)
	}
	f, ok := diskFile(path)
	if !ok {
		return nil, fmt.Errorf("corpus %s: kind %q is not known: expected .txt, .jsonl, source code, any of them with .gz, or a folder", path, f.kind)
	}
	c.files = []file{f}
	return c, nil
}

// CorpusFromBytes is the corpus of a .txt file whose contents are txt. name
// stands for it in errors.
func CorpusFromBytes(name string, txt []byte) *Corpus {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(txt)), nil }
	return &Corpus{name: name, files: []file{{name, ".txt", open}}}
}

// Name is the path or the name that the corpus was made with.
func (c *Corpus) Name() string { return c.name }

func (c *Corpus) walk(root string) error {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		hidden := strings.HasPrefix(d.Name(), ".") && path != root
		switch {
		case err != nil:
			return err
		case hidden && d.IsDir():
			return filepath.SkipDir
		case hidden || d.IsDir():
			return nil
		}
		if f, ok := diskFile(path); ok {
			c.files = append(c.files, f)
		}
		return nil
	})
	if err == nil && len(c.files) == 0 {
		err = fmt.Errorf("no file of a known kind: expected .txt, .jsonl or source code")
	}
	if err != nil {
		return fmt.Errorf("corpus %s: %w", root, err)
	}
	return nil
}

// diskFile is the file at path, and whether its kind is known.
func diskFile(path string) (file, bool) {
	plain, zipped := strings.CutSuffix(path, ".gz")
	f := file{name: path, kind: strings.ToLower(filepath.Ext(plain))}
	f.open = func() (io.ReadCloser, error) {
		r, err := os.Open(path)
		if err != nil || !zipped {
			return r, err
		}
		return unzip(r)
	}
	return f, f.kind == ".txt" || f.kind == ".jsonl" || slices.Contains(wholeFile, f.kind)
}

type zippedFile struct {
	*gzip.Reader
	file io.Closer
}

func (z zippedFile) Close() error { return z.file.Close() }

func unzip(r io.ReadCloser) (io.ReadCloser, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	return zippedFile{z, r}, nil
}

// Documents yields the documents in order, empty ones left out. It holds one
// document at a time, and stops at the first error, which names the file. The
// first bytes of a corpus that are not UTF-8 are warned of in the log.
func (c *Corpus) Documents() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, f := range c.files {
			for doc, err := range c.documents(f) {
				if err != nil {
					yield("", fmt.Errorf("corpus %s: %w", f.name, err))
					return
				}
				if doc != "" && !yield(doc, nil) {
					return
				}
			}
		}
	}
}

func (c *Corpus) documents(f file) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		r, err := f.open()
		if err != nil {
			yield("", err)
			return
		}
		defer r.Close()
		scan := bufio.NewScanner(skipMark(r))
		scan.Buffer(nil, math.MaxInt)
		scan.Split(f.cut)
		for n := 1; scan.Scan(); n++ {
			c.checkUTF8(f, scan.Bytes())
			doc, err := f.document(scan.Bytes(), n)
			if !yield(doc, err) || err != nil {
				return
			}
		}
		if err := scan.Err(); err != nil {
			yield("", err)
		}
	}
}

// skipMark is r without a byte order mark at its start.
func skipMark(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if start, _ := b.Peek(len(byteOrderMark)); string(start) == byteOrderMark {
		_, _ = b.Discard(len(byteOrderMark)) // cannot fail: they are buffered
	}
	return b
}

// checkUTF8 warns once per corpus: tokenizers take other bytes for U+FFFD or for
// bytes of their own, so a model would learn what no one wrote.
func (c *Corpus) checkUTF8(f file, data []byte) {
	if utf8.Valid(data) {
		return
	}
	c.warned.Do(func() {
		slog.Warn("the corpus is not UTF-8: a tokenizer replaces what it cannot read; convert the file to UTF-8 (iconv -t UTF-8)", "file", f.name)
	})
}

// cut is the bufio.SplitFunc of the file's kind.
func (f file) cut(data []byte, atEOF bool) (advance int, token []byte, err error) {
	switch f.kind {
	case ".jsonl":
		return bufio.ScanLines(data, atEOF)
	case ".txt":
		if i := bytes.Index(data, []byte(separator)); i >= 0 {
			return i + len(separator), data[:i], nil
		}
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// document is the text of the nth stretch that cut found.
func (f file) document(data []byte, n int) (string, error) {
	if f.kind != ".jsonl" {
		return string(data), nil
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return "", nil
	}
	var line struct {
		Text *string `json:"text"`
	}
	if err := json.Unmarshal(data, &line); err != nil {
		return "", fmt.Errorf("line %d: %w", n, err)
	}
	if line.Text == nil {
		return "", fmt.Errorf(`line %d has no "text"`, n)
	}
	return *line.Text, nil
}

// Tokens encodes the documents, each followed by the end-of-text token where the
// tokenizer has one: the stream that windows are cut from. With max > 0 it is
// the first max ids of that stream. Documents are encoded on all cores; the
// stream does not depend on how many there are. A cancelled ctx is an error.
func (c *Corpus) Tokens(ctx context.Context, t *Tokenizer, max int) ([]int32, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var stream []int32
	for result := range c.encode(ctx, t) {
		doc := <-result
		if doc.err != nil {
			return nil, doc.err
		}
		stream = append(stream, doc.ids...)
		if max > 0 && len(stream) >= max {
			return stream[:max:max], nil
		}
	}
	return stream, context.Cause(ctx)
}

type encoded struct {
	ids []int32
	err error
}

// encode starts a goroutine for each document and sends where its ids will
// come, in document order. How far it runs ahead is bounded by the channel.
func (c *Corpus) encode(ctx context.Context, t *Tokenizer) <-chan chan encoded {
	results := make(chan chan encoded, 2*runtime.GOMAXPROCS(0))
	go func() {
		defer close(results)
		for doc, err := range c.Documents() {
			result := make(chan encoded, 1)
			select {
			case results <- result:
			case <-ctx.Done():
				return
			}
			go func() { result <- encoded{t.document(doc), err} }()
		}
	}()
	return results
}

// document is the ids of a document with the end-of-text token after them.
func (t *Tokenizer) document(doc string) []int32 {
	ids := t.EncodePlain(doc)
	if eos, ok := t.EOS(); ok {
		ids = append(ids, eos)
	}
	return ids
}
