// Package raw opens the files that data comes in: text and JSON as they are, compressed by gzip or zstd, and tables of Parquet as JSON.
package raw

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"gqa/internal/file"
)

// packings are the endings of compressed files' names, with the first bytes of the files.
var packings = []struct{ ending, start, is string }{
	{".gz", "\x1f\x8b", "gzip-compressed"},
	{".zst", "\x28\xb5\x2f\xfd", "zstd-compressed"},
}

// Parquet is the ending of tables' names.
const Parquet = ".parquet"

// LFS is how a file begins that Git LFS has not fetched yet.
const (
	LFS       = "version https://git-lfs.github.com/spec/"
	LFSAdvice = "is a pointer of Git LFS, not the file itself; fetch it: git lfs pull"
)

// Unpacked returns the name without the ending of a compression, and that ending; "" if there is none.
func Unpacked(name string) (plain, ending string) {
	for _, p := range packings {
		if plain, ok := strings.CutSuffix(name, p.ending); ok {
			return plain, p.ending
		}
	}
	return name, ""
}

// Kind returns the lower-case extension of a file's name without the ending of a compression.
func Kind(name string) string {
	plain, _ := Unpacked(name)
	return strings.ToLower(filepath.Ext(plain))
}

// Open returns the contents of a regular file, decompressed as its name says. A table of Parquet becomes one JSON object per row, with
// the columns named if it has any of them, and otherwise with all.
func Open(path string, columns []string) (io.ReadCloser, error) {
	f, err := file.Open(path)
	if err != nil {
		return nil, err
	}
	if Kind(path) == Parquet {
		t, err := openTable(f, columns)
		if err != nil {
			_ = f.Close() // the first error says more
			return nil, err
		}
		return t, nil
	}
	_, ending := Unpacked(path)
	r, err := Unpack(f, ending)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return opened{r, f}, nil
}

type opened struct {
	io.Reader
	file io.Closer
}

func (o opened) Close() error { return o.file.Close() }

// maxWindow is how much a zstd file may refer back to, as in the zstd command without --long.
const maxWindow = 128 << 20

// Unpack returns what r holds, compressed as a file with that ending is.
func Unpack(r io.Reader, ending string) (io.Reader, error) {
	i := slices.IndexFunc(packings, func(p struct{ ending, start, is string }) bool { return p.ending == ending })
	if i < 0 {
		return r, nil
	}
	b := bufio.NewReaderSize(r, 64<<10)
	p := packings[i]
	start, err := b.Peek(len(p.start))
	if err != nil && err != io.EOF {
		return nil, err
	}
	if string(start) != p.start {
		return nil, fmt.Errorf("the file is not %s, although its name ends in %s (invalid header)", p.is, ending)
	}
	if ending == ".gz" {
		return gzip.NewReader(b)
	}
	z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return zstdReader{z}, nil
}

// zstdReader says more about what cannot be decompressed.
type zstdReader struct{ *zstd.Decoder }

func (z zstdReader) Read(p []byte) (int, error) {
	n, err := z.Decoder.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = fmt.Errorf("%w: want at most %d MiB; compress it without --long", err, maxWindow>>20)
	}
	return n, err
}
