package data

import (
	"bufio"
	"bytes"
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

	"gqa/internal/data/raw"
	"gqa/internal/file"
)

// textCorpus is a sequence of documents, read on demand.
type textCorpus struct {
	name    string
	keys    keys // of the texts in records
	files   []source
	badRows int       // as in Options
	warned  sync.Once // about invalid UTF-8
}

// TextKey is the default key for the text of a JSON record.
const TextKey = "text"

// openCorpus opens a text corpus. path is a .txt file with documents separated by <|endoftext|>; a .jsonl, .ndjson or
// .json file of records, concatenated or in an array, which are strings or hold their text under key ("": TextKey), or a
// conversation; a table of Parquet, .csv or .tsv with such records; a file of source code or prose, which is one document; any of these but Parquet
// with .gz or .zst; a folder of such files, read in path order; or a glob that matches such files and folders. In a folder, dot files and files that describe it (README, LICENSE, dataset_info.json) are skipped. In a data
// set, so are source code and prose. Files of other kinds are skipped with a warning, and are an error if they make up
// most of the bytes.
func openCorpus(ctx context.Context, path, key string) (*textCorpus, error) {
	c := &textCorpus{name: path, keys: keys{key}}
	if err := c.open(ctx); err != nil {
		return nil, fmt.Errorf("corpus %s: %w", path, file.Reason(path, err))
	}
	return c, nil
}

// corpusFromBytes returns the corpus of a .txt file with the contents txt. Errors refer to it as name.
func corpusFromBytes(name string, txt []byte) *textCorpus {
	open := func([]string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(txt)), nil }
	return &textCorpus{name: name, files: []source{{name: name, kind: ".txt", size: int64(len(txt)), open: open}}}
}

// Name returns the path or name that the corpus was created with.
func (c *textCorpus) Name() string { return c.name }

// part is a document, or a piece of one longer than maxPart, or a row that cannot be used.
type part struct {
	Text    string
	Goes    bool          // the document continues in the next part
	Resumes bool          // the document began in an earlier part
	chat    *conversation // the document, instead of Text
	bad     error         // why the row cannot be used; nil if it can
	read    int64         // approximate number of bytes of the corpus on disk up to the end of the part
	after   place         // where the next part begins
}

// place is a position in a corpus: a number of parts of a file.
type place struct {
	File  int `json:"file"`
	Parts int `json:"parts"`
}

// errStop stops reading a corpus early.
var errStop = errors.New("stop")

// Parts yields the documents in order, without empty ones, and long ones in parts, and rows that cannot be used. It holds one part at a
// time, and stops at the first error, which names the file. It logs a warning about the first bytes of a corpus that are not UTF-8, and
// about records whose text is null.
func (c *textCorpus) Parts(ctx context.Context) iter.Seq2[part, error] {
	return c.partsFrom(ctx, place{})
}

// partsFrom is Parts from a place on.
func (c *textCorpus) partsFrom(ctx context.Context, from place) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		m, nulls := meter{ctx: ctx}, 0
		defer func() {
			if nulls > 0 {
				slog.Warn(fmt.Sprintf("records whose %q is null were skipped", c.keys.text()), "corpus", c.name, "records", nulls)
			}
		}()
		for i := from.File; i < len(c.files); i++ {
			f, at := c.files[i], place{File: i}
			n, err := c.read(f, &m, func(p part) error {
				at.Parts++
				if i == from.File && at.Parts <= from.Parts {
					return nil
				}
				p.read, p.after = m.read, at
				c.checkUTF8(f, p.Text)
				switch {
				case p.bad != nil:
					p.bad = fmt.Errorf("%s: %w", f.name, p.bad)
				case f.records():
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
	opened, err := f.open(c.keys.columns())
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
		reader := recordReader{r: from, keys: c.keys, doc: document{emit: emit}}
		separator := raw.Separators[f.kind]
		if separator != 0 {
			reader.r = bufio.NewReaderSize(raw.Separated(from, separator), bufferSize)
		}
		if separator != 0 || f.kind == raw.Parquet {
			reader.unit = "row"
		}
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
// tokens that windows are cut from. With max > 0 it returns the first max tokens, and reads no more than needed for
// them. Documents are encoded on all cores; the result does not depend on their number. A cancelled ctx is an error.
func (c *textCorpus) Tokens(ctx context.Context, e *encoder, max int) ([]int32, error) {
	ids, bad := gathered{size: c.size()}, newTally(c.name, c.badRows)
	err := c.eachEncoded(ctx, e, place{}, func(part encoded) error {
		if part.bad != nil {
			return bad.add(part.bad)
		}
		bad.good = true
		ids.add(part)
		if max > 0 && len(ids.all) >= max {
			ids.all = slices.Clip(ids.all[:max])
			return errStop
		}
		return nil
	})
	if err == nil {
		err = bad.end()
	}
	if err != nil {
		return nil, err
	}
	return ids.all, nil
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
