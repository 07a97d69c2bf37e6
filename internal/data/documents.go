package data

import (
	"bufio"
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"
)

const (
	// separator separates the documents of a .txt file.
	separator = "<|endoftext|>"
	// byteOrderMark is written by some editors at the start of a UTF-8 file; it is not part of the text.
	byteOrderMark = "\uFEFF"
)

// maxPart is the maximum number of bytes of a document that are held and encoded at once. Longer documents are cut into
// parts: see cut.
var maxPart = 1 << 20

// bufferSize is the size of a read in bytes.
const bufferSize = 64 << 10

// document collects a document and emits it in parts.
type document struct {
	emit    func(part) error
	buf     []byte
	resumes bool
}

// write appends to the document.
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

// end emits the rest of the document and begins a new one.
func (d *document) end() error {
	p := part{Text: string(d.buf), Resumes: d.resumes}
	d.buf, d.resumes = d.buf[:0], false
	if p.Text == "" {
		return nil
	}
	return d.emit(p)
}

// abandon drops the document. One whose beginning was emitted ends there.
func (d *document) abandon() error {
	if !d.resumes {
		d.buf = d.buf[:0]
	}
	return d.end()
}

// cut returns the position, at most most, at which to cut text. Among the positions in the second half of the first
// most bytes it prefers the last one between a line feed that ends a non-blank line and a letter, since tokenizers
// split there too; then one after a line feed; then one before a space; then one between two runes.
func cut(text []byte, most int) int {
	half := text[most/2 : most-utf8.UTFMax+1] // a rune after it is complete
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

// readText reads documents separated by separator; "" means that there is only one.
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

// skipMark skips a byte order mark, if there is one.
func skipMark(b *bufio.Reader) {
	if start, _ := b.Peek(len(byteOrderMark)); string(start) == byteOrderMark {
		_, _ = b.Discard(len(byteOrderMark)) // cannot fail: the bytes are buffered
	}
}
