package data

import (
	"bufio"
	"cmp"
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

// recordReader reads JSON records, on lines of their own or in arrays: strings, or objects that hold a string, or a conversation,
// under one of some keys. It buffers nothing of a record except what document holds of its text, and conversations. NaN, Infinity and
// -Infinity, which Python writes, count as numbers.
type recordReader struct {
	r     *bufio.Reader
	keys  keys
	doc   document
	unit  string // what begins with a record: a line, or a row of a table
	line  int    // line feeds read
	nulls int    // records whose text is null
}

// readAll reads every record. What is wrong with one that cannot be used is passed to doc.emit, which decides whether to go on.
func (r *recordReader) readAll() error {
	err := r.records()
	if err == nil || err == errStop {
		return err
	}
	return r.located(err)
}

func (r *recordReader) located(err error) error {
	return fmt.Errorf("%s %d: %w", cmp.Or(r.unit, "line"), r.line+1, err)
}

// tolerate reports a record that cannot be used.
func (r *recordReader) tolerate(err error) error {
	if err := r.doc.abandon(); err != nil {
		return err
	}
	return r.doc.emit(part{bad: r.located(err)})
}

// resume reads past what is wrong in a record that began on a line: to the end of the line, or, if the next line has begun, to there.
func (r *recordReader) resume(began int) error {
	if r.line > began {
		_ = r.r.UnreadByte() // fails only if the last byte was not looked at
		return nil
	}
	for {
		line, err := r.r.ReadSlice('\n')
		if len(line) > 0 && line[len(line)-1] == '\n' {
			r.line++
		}
		if err != bufio.ErrBufferFull {
			return nonEOF(err)
		}
	}
}

func (r *recordReader) records() error {
	for begun := false; ; begun = true {
		c, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		line := r.line
		if c == '[' {
			err = r.list(r.record)
		} else if err = r.record(c); isSyntax(err) && (begun || beginsJSON(c)) {
			if err = r.tolerate(err); err == nil {
				err = r.resume(line)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		line = r.line
		if c, err = r.next(); err == nil && r.line == line {
			if err = r.tolerate(fmt.Errorf("%q after the end of a record, want each on a line of its own", c)); err == nil {
				err = r.resume(line)
			}
		} else if err == nil {
			err = r.r.UnreadByte()
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
}

// next reads the next byte that is not white space.
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

// must is next, but the end of the file is an error.
func (r *recordReader) must() (byte, error) {
	c, err := r.next()
	return c, midway(err)
}

// syntaxError is a fault that makes it uncertain where a record ends.
type syntaxError struct{ error }

func syntax(format string, args ...any) error { return syntaxError{fmt.Errorf(format, args...)} }

func isSyntax(err error) bool { return errors.As(err, new(syntaxError)) }

func midway(err error) error {
	if err == io.EOF {
		return syntax("unexpected end of file in a record")
	}
	return err
}

// record reads a record that begins with c. It is an error if what follows it cannot be found; other faults are tolerated.
func (r *recordReader) record(c byte) error {
	switch c {
	case '{':
		return r.object()
	case '"':
		if err := r.str(r.doc.write); err != nil {
			return err
		}
		return r.doc.end()
	}
	if !beginsJSON(c) {
		return syntax("the file is not JSON: found %q, want a record: an object with %q or a string", c, r.keys.text())
	}
	if _, err := r.skip(c, 1); err != nil {
		return err
	}
	return r.tolerate(fmt.Errorf("a record is %s, want an object with %q, or a string", kindOfJSON(c), r.keys.text()))
}

// object reads an object whose opening brace has been read.
func (r *recordReader) object() error {
	o := object{missing: KeyError{Key: r.keys.text()}, longest: -1}
	err := r.members(func(key string, c byte) error { return r.member(&o, key, c) })
	switch {
	case err != nil:
		return err
	case o.fault != nil:
		return r.tolerate(o.fault)
	case o.seen:
		return r.doc.end()
	case o.null:
		r.nulls++
		return nil
	}
	chat, err := r.keys.conversation(o.values)
	switch {
	case err != nil:
		return r.tolerate(err)
	case chat != nil:
		return r.doc.emit(part{chat: chat})
	}
	return r.tolerate(&o.missing)
}

// object is what is known of an object.
type object struct {
	missing    KeyError
	longest    int // length of the longest string under another key
	seen, null bool
	values     map[string]any // what a conversation can consist of
	fault      error
}

// member reads a value that begins with c.
func (r *recordReader) member(o *object, key string, c byte) (err error) {
	switch {
	case key == r.keys.text() && (o.seen || o.null):
		o.fault = fmt.Errorf("a record has %q twice", key)
	case key == r.keys.text() && c == '"':
		o.seen = true
		return r.str(r.doc.write)
	case key == r.keys.text() && c == 'n':
		o.null = true
	case r.keys.chat(key) && (c == '[' || key != r.keys.key):
		if o.values == nil {
			o.values = map[string]any{}
		}
		o.missing.add(key)
		o.values[key], err = r.value(c)
		if text, ok := o.values[key].(string); ok && len(text) > o.longest {
			o.missing.Longest, o.longest = key, len(text)
		}
		return err
	case key == r.keys.text():
		o.fault = fmt.Errorf("%q is %s, want a string", key, kindOfJSON(c))
	}
	n, err := r.skip(c, 1)
	if c == '"' && n > o.longest {
		o.missing.Longest, o.longest = key, n
	}
	o.missing.add(key)
	return err
}

// KeyError reports a record that lacks the key of its text.
type KeyError struct {
	Key     string
	Has     []string // its first keys
	More    int      // number of further keys
	Longest string   // key of its longest string; "" if it has no string
}

// maxKeys is the maximum number of keys listed in an error.
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

// maxDepth is the maximum nesting depth of lists and objects in a record.
const maxDepth = 1000

// members reads an object whose opening brace has been read, calling member to read each value, which begins with c.
func (r *recordReader) members(member func(key string, c byte) error) error {
	c, err := r.must()
	for more := err == nil && c != '}'; more && err == nil; {
		if c != '"' {
			return syntax("found %q, want a quoted key", c)
		}
		key, err := r.name()
		if err != nil {
			return err
		}
		if c, err = r.must(); err != nil {
			return err
		}
		if c != ':' {
			return syntax("found %q, want : after key %q", c, key)
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

// list reads a list whose opening bracket has been read, calling element to read each value, which begins with c.
func (r *recordReader) list(element func(c byte) error) error {
	c, err := r.must()
	for more := err == nil && c != ']'; more && err == nil; {
		if err = element(c); err == nil {
			more, c, err = r.more(']')
		}
	}
	return err
}

// more reads a comma and the first byte after it, or the end, and reports which it was.
func (r *recordReader) more(end byte) (more bool, c byte, err error) {
	if c, err = r.must(); err != nil || c == end {
		return false, 0, err
	}
	if c != ',' {
		return false, 0, syntax("found %q, want , or %c", c, end)
	}
	c, err = r.must()
	return true, c, err
}

// skip reads a value that begins with c, at the given nesting depth, and returns the length of a string in bytes.
func (r *recordReader) skip(c byte, depth int) (n int, err error) {
	if depth > maxDepth {
		return 0, syntax("lists and objects are nested more than %d deep", maxDepth)
	}
	switch c {
	case '"':
		err = r.str(func(text []byte) error { n += len(text); return nil })
	case '{':
		err = r.members(func(_ string, c byte) error { _, err := r.skip(c, depth+1); return err })
	case '[':
		err = r.list(func(c byte) error { _, err := r.skip(c, depth+1); return err })
	default:
		_, err = r.literal(c)
	}
	return n, err
}

// maxToken is the maximum length of a key or number in bytes.
const maxToken = 64 << 10

// name reads a key whose opening quote has been read.
func (r *recordReader) name() (string, error) {
	var key []byte
	err := r.str(func(text []byte) error {
		if key = append(key, text...); len(key) > maxToken {
			return syntax("a key of more than %d bytes", maxToken)
		}
		return nil
	})
	return string(key), err
}

// literal reads true, false, null or a number that begins with c, and returns its text.
func (r *recordReader) literal(c byte) (string, error) {
	text := []byte{c}
	for len(text) <= maxToken {
		c, err := r.r.ReadByte()
		if err != nil && err != io.EOF {
			return "", err
		}
		if err == io.EOF || !inLiteral(c) {
			if err == nil {
				err = r.r.UnreadByte()
			}
			return string(text), errors.Join(nonEOF(err), checkLiteral(text))
		}
		text = append(text, c)
	}
	return "", syntax("a number of more than %d bytes", maxToken)
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

// pythonNumbers are numbers that Python writes and JSON does not have.
var pythonNumbers = []string{"NaN", "Infinity", "-Infinity"}

func checkLiteral(text []byte) error {
	if json.Valid(text) || slices.Contains(pythonNumbers, string(text)) {
		return nil
	}
	return syntax("%.20q is not a JSON value", text)
}

// str reads a string whose opening quote has been read and passes it to write in pieces.
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
			return syntax("control character %q in a string, want it escaped", c)
		}
		if err := r.escape(write); err != nil {
			return err
		}
	}
}

// escapes are the one-letter escapes.
var escapes = map[byte]string{'"': "\"", '\\': "\\", '/': "/", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t"}

// escape reads an escape whose backslash has been read. Half a surrogate pair becomes U+FFFD.
func (r *recordReader) escape(write func(text []byte) error) error {
	c, err := r.r.ReadByte()
	if err != nil {
		return midway(err)
	}
	if c != 'u' {
		text, ok := escapes[c]
		if !ok {
			return syntax("\\%c is not a JSON escape", c)
		}
		return write([]byte(text))
	}
	hex := make([]byte, 4)
	if _, err := io.ReadFull(r.r, hex); err != nil {
		return midway(io.EOF)
	}
	char, ok := hexRune(hex)
	if !ok {
		return syntax("\\u%q is not a JSON escape", hex)
	}
	if utf16.IsSurrogate(char) {
		next, _ := r.r.Peek(6)
		low := rune(utf8.RuneError)
		if len(next) == 6 && string(next[:2]) == `\u` {
			low, _ = hexRune(next[2:])
		}
		if char = utf16.DecodeRune(char, low); char != utf8.RuneError {
			_, _ = r.r.Discard(6) // cannot fail: the bytes are buffered
		}
	}
	return write(utf8.AppendRune(nil, char))
}

func hexRune(hex []byte) (rune, bool) {
	n, err := strconv.ParseUint(string(hex), 16, 16)
	return rune(n), err == nil
}

// beginsJSON reports whether a value may begin with c.
func beginsJSON(c byte) bool {
	return strings.IndexByte(`{["tfnNI-`, c) >= 0 || '0' <= c && c <= '9'
}

// kindOfJSON describes a value by its first byte.
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
