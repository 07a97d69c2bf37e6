package data

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"gqa/internal/data/raw"
)

const (
	gzipStart = "\x1f\x8b"
	zstdStart = "\x28\xb5\x2f\xfd"
)

// others are file contents that contradict the file's extension.
var others = []struct {
	start string // first bytes of the file
	text  bool   // text files may start like this too, but records never do
	is    string
}{
	{raw.LFS, false, raw.LFSAdvice},
	{gzipStart, false, "is compressed by gzip; add .gz to its name"},
	{zstdStart, false, "is compressed by zstd; add .zst to its name"},
	{"\xfd7zXZ\x00", false, "is compressed by xz; decompress it: xz -d"},
	{"PK\x03\x04", false, "is a zip archive; unpack it: unzip"},
	{"PAR1", true, "holds Parquet; name it .parquet"},
	{"ARROW1", true, "holds Arrow; " + strings.ReplaceAll(instead[".arrow"], "FILE", "*")},
	{"BZh", true, "is compressed by bzip2; decompress it: bzip2 -d"},
}

// content returns the text or records in r, a file as it is stored; Parquet has already become records. It is an error, which names the
// kind, if the file begins like one of another kind.
func (f source) content(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, bufferSize)
	if f.packing != "" && !startsWith(b, gzipStart) && !startsWith(b, zstdStart) {
		if err := f.checkStart(b); err != nil {
			return nil, err
		}
	}
	if f.packing != "" {
		z, err := raw.Unpack(b, f.packing)
		if err != nil {
			return nil, err
		}
		b = bufio.NewReaderSize(z, bufferSize)
	}
	if err := f.checkStart(b); err != nil {
		return nil, err
	}
	skipMark(b)
	return b, nil
}

func (f source) checkStart(r *bufio.Reader) error {
	for _, other := range others {
		if startsWith(r, other.start) && (f.records() || !other.text) {
			return errors.New("the file " + other.is)
		}
	}
	return nil
}

func startsWith(r *bufio.Reader, s string) bool {
	start, _ := r.Peek(len(s))
	return string(start) == s
}
