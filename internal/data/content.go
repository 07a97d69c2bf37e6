package data

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

const gzipStart = "\x1f\x8b"

// others are file contents that contradict the file's extension.
var others = []struct {
	start string // first bytes of the file
	text  bool   // text files may start like this too, but records never do
	is    string
}{
	{"version https://git-lfs.github.com/spec/", false, "is a pointer of Git LFS, not the file itself; fetch it: git lfs pull"},
	{gzipStart, false, "is compressed by gzip; add .gz to its name"},
	{"\x28\xb5\x2f\xfd", false, "is compressed by zstd; decompress it: zstd -d"},
	{"\xfd7zXZ\x00", false, "is compressed by xz; decompress it: xz -d"},
	{"PK\x03\x04", false, "is a zip archive; unpack it: unzip"},
	{"PAR1", true, "holds Parquet; " + strings.ReplaceAll(instead[".parquet"], "FILE", "*")},
	{"ARROW1", true, "holds Arrow; " + strings.ReplaceAll(instead[".arrow"], "FILE", "*")},
	{"BZh", true, "is compressed by bzip2; decompress it: bzip2 -d"},
}

// content returns the text or records in r. It is an error, which names the kind, if the file begins like one of
// another kind.
func (f source) content(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, bufferSize)
	if f.zipped && !startsWith(b, gzipStart) {
		if err := f.checkStart(b); err != nil {
			return nil, err
		}
	}
	if f.zipped {
		z, err := gzip.NewReader(b)
		if err == gzip.ErrHeader || err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, fmt.Errorf("the file is not gzip-compressed, although its name ends in .gz (%w)", err)
		}
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
