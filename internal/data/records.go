package data

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// recordReader reads the texts of JSON records: objects that hold one under a key, or
// strings, one behind another with line feeds between, or in arrays. It holds nothing
// of a record but what document holds of its text. NaN, Infinity and -Infinity, which
// Python writes, are numbers to it.
type recordReader struct {
	r     *bufio.Reader
	key   string
	doc   document
	line  int // line feeds read
	nulls int // records whose text is null
}

// readAll reads every record.
func (r *recordReader) readAll() error {
	err := r.records()
	if err == nil || err == errStop {
		return err
	}
	return fmt.Errorf("line %d: %w", r.line+1, err)
}

func (r *recordReader) records() error {
	for {
		c, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if c == '[' {
			err = r.list(r.record)
		} else {
			err = r.record(c)
		}
		if err != nil {
			return err
		}
		line := r.line
		if c, err = r.next(); err == nil && r.line == line {
			return fmt.Errorf("%q behind the end of a record, want each on a line of its own", c)
		}
		if err == nil {
			err = r.r.UnreadByte()
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
}

// next is the first byte that is no white space, which is read.
func (r *recordReader) next() (byte, error) {
	for {
		c, err := r.r.ReadByte()
		switch {
		case err != nil:
			return 0, err
		case c == '\n':
			r.line++
		case c != ' ' && c != '\t' && c != '\r':
			return c, nil
		}
	}
}

// must is next where the file may not end.
func (r *recordReader) must() (byte, error) {
	c, err := r.next()
	return c, midway(err)
}

func midway(err error) error {
	if err == io.EOF {
		return errors.New("unexpected end of the file within a record")
	}
	return err
}

// record reads a record that begins with c.
func (r *recordReader) record(c byte) error {
	switch c {
	case '{':
		return r.object()
	case '"':
		return r.text()
	}
	if !beginsJSON(c) {
		return fmt.Errorf("the file is not JSON: %q where a record is wanted, an object with %q or a string", c, r.key)
	}
	return fmt.Errorf("a record is %s, want an object with %q, or a string", kindOfJSON(c), r.key)
}

// text reads a document whose quote is read.
func (r *recordReader) text() error {
	if err := r.str(r.doc.write); err != nil {
		return err
	}
	return r.doc.end()
}

// object reads an object whose brace is read.
func (r *recordReader) object() error {
	missing := KeyError{Key: r.key}
	longest, seen := -1, false
	err := r.members(func(key string, c byte) error {
		if key == r.key {
			if seen {
				return fmt.Errorf("a record has %q twice", key)
			}
			seen = true
			return r.textValue(c)
		}
		n, err := r.skip(c, 1)
		if c == '"' && n > longest {
			missing.Longest, longest = key, n
		}
		missing.add(key)
		return err
	})
	if err == nil && !seen {
		err = &missing
	}
	return err
}

// textValue reads the value of the record's text, which begins with c.
func (r *recordReader) textValue(c byte) error {
	switch c {
	case '"':
		return r.text()
	case 'n':
		r.nulls++
		_, err := r.skip(c, 1)
		return err
	}
	return fmt.Errorf("%q is %s, want a string", r.key, kindOfJSON(c))
}

// KeyError reports a record without the key of its text.
type KeyError struct {
	Key     string
	Has     []string // the first of its keys
	More    int      // how many others it has
	Longest string   // the key of its longest string; "": it has none
}

// maxKeys is how many keys of a record an error names.
const maxKeys = 12

func (e *KeyError) add(key string) {
	if len(e.Has) < maxKeys {
		e.Has = append(e.Has, key)
	} else {
		e.More++
	}
}

// Error names the key that is missing and those that the record has.
func (e *KeyError) Error() string {
	if len(e.Has) == 0 {
		return fmt.Sprintf("the record has no %q; it is empty", e.Key)
	}
	quoted := make([]string, len(e.Has))
	for i, key := range e.Has {
		quoted[i] = strconv.Quote(key)
	}
	has := strings.Join(quoted, ", ")
	if e.More > 0 {
		has += fmt.Sprintf(" and %d more", e.More)
	}
	if e.Longest == "" {
		return fmt.Sprintf("the record has no %q, and no other key holds a string; its keys are %s", e.Key, has)
	}
	return fmt.Sprintf("the record has no %q; its keys are %s", e.Key, has)
}

// maxDepth is how deep the lists and objects of a record may lie in each other.
const maxDepth = 1000

// members reads an object whose brace is read: member reads each value, of which c is
// the first byte.
func (r *recordReader) members(member func(key string, c byte) error) error {
	c, err := r.must()
	for more := err == nil && c != '}'; more && err == nil; {
		if c != '"' {
			return fmt.Errorf("%q where a key in quotes is wanted", c)
		}
		key, err := r.name()
		if err != nil {
			return err
		}
		if c, err = r.must(); err != nil {
			return err
		}
		if c != ':' {
			return fmt.Errorf("%q where the : behind key %q is wanted", c, key)
		}
		if c, err = r.must(); err != nil {
			return err
		}
		if err := member(key, c); err != nil {
			return err
		}
		if more, c, err = r.more('}'); err != nil {
			return err
		}
	}
	return err
}

// list reads a list whose bracket is read: element reads each value, of which c is the
// first byte.
func (r *recordReader) list(element func(c byte) error) error {
	c, err := r.must()
	for more := err == nil && c != ']'; more && err == nil; {
		if err = element(c); err == nil {
			more, c, err = r.more(']')
		}
	}
	return err
}

// more tells whether a comma follows, or the end, and reads the first byte behind a comma.
func (r *recordReader) more(end byte) (more bool, c byte, err error) {
	if c, err = r.must(); err != nil || c == end {
		return false, 0, err
	}
	if c != ',' {
		return false, 0, fmt.Errorf("%q where , or %c is wanted", c, end)
	}
	c, err = r.must()
	return true, c, err
}

// skip reads a value that begins with c, at a depth of lists and objects, and returns
// the bytes of a string.
func (r *recordReader) skip(c byte, depth int) (n int, err error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("lists and objects lie more than %d deep in each other", maxDepth)
	}
	switch c {
	case '"':
		err = r.str(func(text []byte) error { n += len(text); return nil })
	case '{':
		err = r.members(func(_ string, c byte) error { _, err := r.skip(c, depth+1); return err })
	case '[':
		err = r.list(func(c byte) error { _, err := r.skip(c, depth+1); return err })
	default:
		err = r.literal(c)
	}
	return n, err
}

// maxToken bounds the bytes of a key, and of a number.
const maxToken = 64 << 10

// name reads a key whose quote is read.
func (r *recordReader) name() (string, error) {
	var key []byte
	err := r.str(func(text []byte) error {
		if key = append(key, text...); len(key) > maxToken {
			return fmt.Errorf("a key of more than %d bytes", maxToken)
		}
		return nil
	})
	return string(key), err
}

// literal reads true, false, null or a number, of which c is the first byte.
func (r *recordReader) literal(c byte) error {
	text := []byte{c}
	for len(text) <= maxToken {
		c, err := r.r.ReadByte()
		if err != nil && err != io.EOF {
			return err
		}
		if err == io.EOF || !inLiteral(c) {
			if err == nil {
				err = r.r.UnreadByte()
			}
			return errors.Join(nonEOF(err), checkLiteral(text))
		}
		text = append(text, c)
	}
	return fmt.Errorf("a number of more than %d bytes", maxToken)
}

func nonEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func inLiteral(c byte) bool {
	return c == '+' || c == '-' || c == '.' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// pythonNumbers are the numbers that JSON does not have and Python writes.
var pythonNumbers = []string{"NaN", "Infinity", "-Infinity"}

func checkLiteral(text []byte) error {
	if json.Valid(text) || slices.Contains(pythonNumbers, string(text)) {
		return nil
	}
	return fmt.Errorf("%.20q is no JSON value", text)
}

// str reads a string whose quote is read and hands it to write in stretches.
func (r *recordReader) str(write func(text []byte) error) error {
	for {
		if _, err := r.r.Peek(1); err != nil {
			return midway(err)
		}
		text, err := r.r.Peek(r.r.Buffered())
		if err != nil {
			return err
		}
		n := slices.IndexFunc(text, func(c byte) bool { return c == '"' || c == '\\' || c < ' ' })
		end := n >= 0
		if !end {
			n = len(text)
		}
		if err := write(text[:n]); err != nil {
			return err
		}
		if _, err := r.r.Discard(n); err != nil || !end {
			if err != nil {
				return err
			}
			continue
		}
		c, err := r.r.ReadByte()
		if err != nil || c == '"' {
			return err
		}
		if c != '\\' {
			return fmt.Errorf("control character %q in a string, want it escaped", c)
		}
		if err := r.escape(write); err != nil {
			return err
		}
	}
}

// escapes are those of one letter.
var escapes = map[byte]string{'"': "\"", '\\': "\\", '/': "/", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t"}

// escape reads an escape whose backslash is read. Half a surrogate pair is U+FFFD.
func (r *recordReader) escape(write func(text []byte) error) error {
	c, err := r.r.ReadByte()
	if err != nil {
		return midway(err)
	}
	if c != 'u' {
		text, ok := escapes[c]
		if !ok {
			return fmt.Errorf("\\%c is no escape of JSON", c)
		}
		return write([]byte(text))
	}
	hex := make([]byte, 4)
	if _, err := io.ReadFull(r.r, hex); err != nil {
		return midway(io.EOF)
	}
	char, ok := hexRune(hex)
	if !ok {
		return fmt.Errorf("\\u%q is no escape of JSON", hex)
	}
	if utf16.IsSurrogate(char) {
		next, _ := r.r.Peek(6)
		low := rune(utf8.RuneError)
		if len(next) == 6 && string(next[:2]) == `\u` {
			low, _ = hexRune(next[2:])
		}
		if char = utf16.DecodeRune(char, low); char != utf8.RuneError {
			_, _ = r.r.Discard(6) // cannot fail: they are buffered
		}
	}
	return write(utf8.AppendRune(nil, char))
}

func hexRune(hex []byte) (rune, bool) {
	n, err := strconv.ParseUint(string(hex), 16, 16)
	return rune(n), err == nil
}

// beginsJSON says whether a value may begin with c.
func beginsJSON(c byte) bool {
	return strings.IndexByte(`{["tfnNI-`, c) >= 0 || '0' <= c && c <= '9'
}

// kindOfJSON names a value by its first byte.
func kindOfJSON(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}
