package data

import (
	"bufio"
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"
)

const (
	// separator stands between the documents of a .txt file.
	separator = "<|endoftext|>"
	// byteOrderMark is what some editors begin a UTF-8 file with; it is no text.
	byteOrderMark = "\uFEFF"
)

// maxPart is how many bytes of a document are held and encoded at once. A longer
// document comes in parts: see cut.
var maxPart = 1 << 20

// bufferSize is how much is read of a file at once.
const bufferSize = 64 << 10

// document gathers a document and emits it in parts.
type document struct {
	emit    func(part) error
	buf     []byte
	resumes bool
}

// write adds to the document.
func (d *document) write(text []byte) error {
	d.buf = append(d.buf, text...)
	for len(d.buf) > maxPart {
		n := cut(d.buf, maxPart)
		if err := d.emit(part{Text: string(d.buf[:n]), Goes: true, Resumes: d.resumes}); err != nil {
			return err
		}
		d.buf = append(d.buf[:0], d.buf[n:]...)
		d.resumes = true
	}
	return nil
}

// end emits what is left of the document and begins another.
func (d *document) end() error {
	p := part{Text: string(d.buf), Resumes: d.resumes}
	d.buf, d.resumes = d.buf[:0], false
	if p.Text == "" {
		return nil
	}
	return d.emit(p)
}

// cut is where to part text, most bytes at the latest. Of the places in the second
// half of these bytes it takes the last between a line feed that ends a line with
// something on it and a letter, since tokenizers part such lines too; else behind a
// line feed; else before a space; else between two runes.
func cut(text []byte, most int) int {
	half := text[most/2 : most-utf8.UTFMax+1] // a rune behind it is there as a whole
	feed := bytes.LastIndexByte(half, '\n')
	for i := feed; i > 0; i = bytes.LastIndexByte(half[:i], '\n') {
		before, _ := utf8.DecodeLastRune(half[:i])
		after, _ := utf8.DecodeRune(text[most/2+i+1:])
		if !unicode.IsSpace(before) && unicode.IsLetter(after) {
			return most/2 + i + 1
		}
	}
	if feed >= 0 {
		return most/2 + feed + 1
	}
	if space := bytes.LastIndexByte(half, ' '); space > 0 {
		return most/2 + space
	}
	for i := most; i > most-utf8.UTFMax && i > 1; i-- {
		if utf8.RuneStart(text[i]) {
			return i
		}
	}
	return most
}

// readText reads documents that a separator stands between; "": there is one alone.
func readText(r io.Reader, separator string, d document) error {
	var buf []byte
	chunk := make([]byte, bufferSize)
	for {
		n, err := r.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for separator != "" {
			i := bytes.Index(buf, []byte(separator))
			if i < 0 {
				break
			}
			if err := d.write(buf[:i]); err != nil {
				return err
			}
			if err := d.end(); err != nil {
				return err
			}
			buf = buf[i+len(separator):]
		}
		if err == io.EOF {
			if err := d.write(buf); err != nil {
				return err
			}
			return d.end()
		}
		if err != nil {
			return err
		}
		keep := min(len(buf), max(len(separator)-1, 0)) // may be the start of a separator
		if err := d.write(buf[:len(buf)-keep]); err != nil {
			return err
		}
		buf = append(buf[:0], buf[len(buf)-keep:]...)
	}
}

// skipMark reads a byte order mark, if there is one.
func skipMark(b *bufio.Reader) {
	if start, _ := b.Peek(len(byteOrderMark)); string(start) == byteOrderMark {
		_, _ = b.Discard(len(byteOrderMark)) // cannot fail: they are buffered
	}
}
