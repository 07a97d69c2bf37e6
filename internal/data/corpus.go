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

// textCorpus is a sequence of documents, read on demand.
type textCorpus struct {
	name   string
	key    string // key of the text in a JSON record
	files  []source
	warned sync.Once // about invalid UTF-8
}

// TextKey is the default key for the text of a JSON record.
const TextKey = "text"

// openCorpus opens a text corpus. path is a .txt file with documents separated by <|endoftext|>; a .jsonl, .ndjson or
// .json file of records, concatenated or in an array, which are strings or hold their text under key ("": TextKey); a
// file of source code or prose, which is one document; any of these with .gz; or a folder of such files, read in path
// order. In a folder, dot files and files that describe it (README, LICENSE, dataset_info.json) are skipped. In a data
// set, so are source code and prose. Files of other kinds are skipped with a warning, and are an error if they make up
// most of the bytes.
func openCorpus(ctx context.Context, path, key string) (*textCorpus, error) {
	c := &textCorpus{name: path, key: cmp.Or(key, TextKey)}
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("corpus %s: %w", path, file.Reason(path, err))
	}
	return c, nil
}

// corpusFromBytes returns the corpus of a .txt file with the contents txt. Errors refer to it as name.
func corpusFromBytes(name string, txt []byte) *textCorpus {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(txt)), nil }
	return &textCorpus{name: name, files: []source{{name: name, kind: ".txt", size: int64(len(txt)), open: open}}}
}

// Name returns the path or name that the corpus was created with.
func (c *textCorpus) Name() string { return c.name }

// part is a document, or a piece of one longer than maxPart.
type part struct {
	Text    string
	Goes    bool  // the document continues in the next part
	Resumes bool  // the document began in an earlier part
	read    int64 // approximate number of bytes of the corpus on disk up to the end of the part
}

// errStop stops reading a corpus early.
var errStop = errors.New("stop")

// Parts yields the documents in order, without empty ones, and long ones in parts. It holds one part at a time, and
// stops at the first error, which names the file. It logs a warning about the first bytes of a corpus that are not
// UTF-8, and about records whose text is null.
func (c *textCorpus) Parts(ctx context.Context) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		m, nulls := meter{ctx: ctx}, 0
		defer func() {
			if nulls > 0 {
				slog.Warn(fmt.Sprintf("records whose %q is null were skipped", c.key), "corpus", c.name, "records", nulls)
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

// read passes the parts of a file to emit, and returns the number of records whose text is null.
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

// meter counts the bytes read from files, until its context is cancelled.
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

// checkUTF8 warns once per corpus. Tokenizers replace invalid bytes by U+FFFD or by special byte tokens, so a model
// would learn text that nobody wrote.
func (c *textCorpus) checkUTF8(f source, s string) {
	if utf8.ValidString(s) {
		return
	}
	c.warned.Do(func() {
		slog.Warn("the corpus is not UTF-8: a tokenizer replaces what it cannot read; convert the file to UTF-8 (iconv -t UTF-8)", "file", f.name)
	})
}

// replaceInvalid replaces each invalid UTF-8 byte of s by U+FFFD, as JSON readers do.
func replaceInvalid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// Tokens encodes the documents, each followed by the end-of-text token if the tokenizer has one, into the sequence of
// token IDs that windows are cut from. With max > 0 it returns the first max IDs, and reads no more than needed for
// them. Documents are encoded on all cores; the result does not depend on their number. A cancelled ctx is an error.
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
			for range results { // wait until reading has stopped and all warnings are logged
			}
			return slices.Clip(ids.all[:max]), nil
		}
	}
	return ids.all, ctx.Err()
}

// size returns the size of the corpus on disk in bytes.
func (c *textCorpus) size() (n int64) {
	for _, f := range c.files {
		n += f.size
	}
	return n
}

// gathered collects the IDs of a corpus with little extra memory.
type gathered struct {
	all   []int32
	size  int64 // bytes of the corpus on disk
	bytes int64 // of the text encoded so far
	swept int64 // value of bytes at the last garbage collection
}

// collectEvery is the number of bytes of text that may become garbage before a collection. On its own, the collector
// would let as much garbage pile up as there are IDs.
const collectEvery = 128 << 20

// add appends a part. If it must grow a large slice, it makes room for the whole corpus, assuming that the rest yields
// as many IDs per byte, or for four times the current length.
func (g *gathered) add(p encoded) {
	g.bytes += int64(p.bytes)
	n := len(g.all) + len(p.ids)
	if n > cap(g.all) && g.bytes > collectEvery/8 {
		more := min(max(1.01*float64(g.size)/float64(p.read), 1.25), 4)
		room := make([]int32, len(g.all), int(float64(n)*more)) // unlike slices.Grow, this does not touch the memory until it is filled
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
	bytes int   // of text
	read  int64 // of the corpus on disk
	err   error
}

// encode starts a goroutine for each part and sends the channels that will receive its IDs, in order. The capacity of
// the channel bounds how far it runs ahead.
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

// encodePart returns the IDs of a part, with the end-of-text token after a document's last part. err is the error from
// reading the part.
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
