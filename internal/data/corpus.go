package data

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"unicode/utf8"

	"gqa/internal/file"
	"gqa/internal/tokenizer"
)

// textCorpus is a sequence of documents, read as they are asked for.
type textCorpus struct {
	name   string
	key    string // of a JSON record's text
	files  []source
	warned sync.Once // that it is not UTF-8
}

// TextKey is the key of a JSON record that holds its text where no other is named.
const TextKey = "text"

// openCorpus opens a text corpus. path is a .txt file, in which <|endoftext|>
// separates documents; a .jsonl, .ndjson or .json file of records, one behind another or in an
// array, with the text of each under key ("": TextKey), or of strings; a file of
// source code or prose, which is one document; any of them with .gz; or a folder
// of such files, taken in path order. Of a folder, hidden files and those that describe
// it (README, LICENSE, dataset_info.json) are left out. Of a data set, so are
// source code and prose. Other kinds are left out with a
// warning, and are an error where they are most of its bytes.
func openCorpus(ctx context.Context, path, key string) (*textCorpus, error) {
	c := &textCorpus{name: path, key: cmp.Or(key, TextKey)}
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("corpus %s: %w", path, file.Reason(path, err))
	}
	return c, nil
}

// corpusFromBytes is the corpus of a .txt file whose contents are txt. name
// stands for it in errors.
func corpusFromBytes(name string, txt []byte) *textCorpus {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(txt)), nil }
	return &textCorpus{name: name, files: []source{{name: name, kind: ".txt", size: int64(len(txt)), open: open}}}
}

// Name is the path or the name that the corpus was made with.
func (c *textCorpus) Name() string { return c.name }

// part is a document, or a stretch of one that is longer than maxPart.
type part struct {
	Text    string
	Goes    bool  // the document goes on in the next part
	Resumes bool  // it began in an earlier part
	read    int64 // bytes of the corpus on disk, up to about its end
}

// errStop ends the reading of a corpus of which no more is wanted.
var errStop = errors.New("stop")

// Parts yields the documents in order, empty ones left out, and long ones in parts.
// It holds one part at a time, and stops at the first error, which names the file. The
// first bytes of a corpus that are not UTF-8 are warned of in the log, and so are
// records whose text is null.
func (c *textCorpus) Parts(ctx context.Context) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		m, nulls := meter{ctx: ctx}, 0
		defer func() {
			if nulls > 0 {
				slog.Warn(fmt.Sprintf("records whose %q is null were left out of the corpus", c.key), "corpus", c.name, "records", nulls)
			}
		}()
		for _, f := range c.files {
			n, err := c.read(f, &m, func(p part) error {
				p.read = m.read
				c.checkUTF8(f, p.Text)
				if f.records() {
					p.Text = replaceInvalid(p.Text)
				}
				if !yield(p, nil) {
					return errStop
				}
				return nil
			})
			nulls += n
			if err == errStop {
				return
			}
			if err != nil {
				yield(part{}, fmt.Errorf("corpus %s: %w", f.name, file.Reason(f.name, err)))
				return
			}
		}
	}
}

// read hands the parts of a file to emit, and counts its records whose text is null.
func (c *textCorpus) read(f source, m *meter, emit func(part) error) (nulls int, err error) {
	opened, err := f.open()
	if err != nil {
		return 0, err
	}
	defer opened.Close()
	m.Reader = opened
	from, err := f.content(m)
	if err != nil {
		return 0, err
	}
	if f.records() {
		reader := recordReader{r: from, key: c.key, doc: document{emit: emit}}
		err := reader.readAll()
		return reader.nulls, err
	}
	return 0, readText(from, f.separator(), document{emit: emit})
}

// meter counts what is read of files, until its context is cancelled.
type meter struct {
	io.Reader
	ctx  context.Context
	read int64
}

func (m *meter) Read(p []byte) (n int, err error) {
	if m.ctx.Err() != nil {
		return 0, m.ctx.Err()
	}
	n, err = m.Reader.Read(p)
	m.read += int64(n)
	return n, err
}

// checkUTF8 warns once per corpus: tokenizers take other bytes for U+FFFD or for
// bytes of their own, so a model would learn what no one wrote.
func (c *textCorpus) checkUTF8(f source, s string) {
	if utf8.ValidString(s) {
		return
	}
	c.warned.Do(func() {
		slog.Warn("the corpus is not UTF-8: a tokenizer replaces what it cannot read; convert the file to UTF-8 (iconv -t UTF-8)", "file", f.name)
	})
}

// replaceInvalid makes each byte of s that is not UTF-8 a U+FFFD, as JSON readers do.
func replaceInvalid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// Tokens encodes the documents, each followed by the end-of-text token where the
// tokenizer has one: the stream that windows are cut from. With max > 0 it is
// the first max ids of that stream, and no more is read than they take. Documents
// are encoded on all cores; the stream does not depend on how many there are. A
// cancelled ctx is an error.
func (c *textCorpus) Tokens(ctx context.Context, t *tokenizer.Tokenizer, max int) ([]int32, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ids := gathered{size: c.size()}
	results := c.encode(ctx, t)
	for result := range results {
		select {
		case part := <-result:
			if part.err != nil {
				return nil, part.err
			}
			ids.add(part)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if max > 0 && len(ids.all) >= max {
			stop()
			for range results { // until nothing is read, and all is said of what was
			}
			return slices.Clip(ids.all[:max]), nil
		}
	}
	return ids.all, ctx.Err()
}

// size is the bytes of the corpus on disk.
func (c *textCorpus) size() (n int64) {
	for _, f := range c.files {
		n += f.size
	}
	return n
}

// gathered are the ids of a corpus, with little memory beside theirs.
type gathered struct {
	all   []int32
	size  int64 // bytes of the corpus on disk
	bytes int64 // of the text that the ids are of
	swept int64 // of these, when the garbage was last collected
}

// collectEvery is how many bytes of text may become garbage. Left alone, the collector
// lets as much pile up as there are ids.
const collectEvery = 128 << 20

// add appends a part. Where it must move many ids it makes room for as many as the corpus
// will have if the rest of it gives as many for its bytes, or for four times as many as now.
func (g *gathered) add(p encoded) {
	g.bytes += int64(p.bytes)
	n := len(g.all) + len(p.ids)
	if n > cap(g.all) && g.bytes > collectEvery/8 {
		more := min(max(1.01*float64(g.size)/float64(p.read), 1.25), 4)
		room := make([]int32, len(g.all), int(float64(n)*more)) // unlike that of slices.Grow, untouched until it is filled
		copy(room, g.all)
		g.all = room
	}
	g.all = append(g.all, p.ids...)
	if g.bytes-g.swept > collectEvery {
		g.swept = g.bytes
		runtime.GC()
	}
}

type encoded struct {
	ids   []int32
	bytes int   // of the text
	read  int64 // of the corpus on disk
	err   error
}

// encode starts a goroutine for each part and sends where its ids will come, in
// order. How far it runs ahead is bounded by the channel.
func (c *textCorpus) encode(ctx context.Context, t *tokenizer.Tokenizer) <-chan chan encoded {
	results := make(chan chan encoded, 2*runtime.GOMAXPROCS(0))
	go func() {
		defer close(results)
		for part, err := range c.Parts(ctx) {
			result := make(chan encoded, 1)
			select {
			case results <- result:
			case <-ctx.Done():
				return
			}
			go func() { result <- encodePart(t, part, err) }()
		}
	}()
	return results
}

// encodePart returns the ids of a part, and after a document's last part the end-of-text token.
// err is the error of reading the part.
func encodePart(t *tokenizer.Tokenizer, p part, err error) encoded {
	if err != nil {
		return encoded{err: err}
	}
	encode := t.EncodePlain
	if p.Resumes {
		encode = t.EncodeRest
	}
	ids, err := encode(p.Text)
	if eos, ok := t.EOS(); ok && !p.Goes {
		ids = append(ids, eos)
	}
	return encoded{ids, len(p.Text), p.read, err}
}
