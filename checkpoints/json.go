package checkpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// parser reads JSON more strictly than json.Unmarshal, which keeps the last of two equal keys and matches field names
// without regard to case.
type parser struct{ *json.Decoder }

// parseObject calls member for each key of the single object in data; member must consume the value.
func parseObject(data []byte, member func(p parser, key string) error) error {
	if !utf8.Valid(data) {
		return errors.New("is not UTF-8 text")
	}
	p := parser{json.NewDecoder(bytes.NewReader(data))}
	p.UseNumber()
	if err := p.object(func(key string) error { return member(p, key) }); err != nil {
		return err
	}
	if _, err := p.Token(); err != io.EOF {
		return fmt.Errorf("has extra data after the JSON object, at byte %d", p.InputOffset())
	}
	return nil
}

// object calls member for each key of the next object.
func (p parser) object(member func(key string) error) error {
	if err := p.open('{'); err != nil {
		return err
	}
	return p.members(member)
}

// objectOrNull is like object but accepts null as an empty object.
func (p parser) objectOrNull(member func(key string) error) error {
	token, err := p.next()
	switch {
	case err != nil || token == nil:
		return err
	case token != json.Delim('{'):
		return fmt.Errorf("has %v, want {", token)
	}
	return p.members(member)
}

// members reads the members of an object whose opening brace has been read.
func (p parser) members(member func(key string) error) error {
	seen := map[string]bool{}
	for p.More() {
		key, err := p.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("has the key %q twice", key)
		}
		seen[key] = true
		if err := member(key); err != nil {
			return err
		}
	}
	_, err := p.next()
	return err
}

// sizes reads an array of non-negative integers.
func (p parser) sizes() ([]int, error) {
	if err := p.open('['); err != nil {
		return nil, err
	}
	values := []int{}
	for p.More() {
		token, err := p.next()
		if err != nil {
			return nil, err
		}
		number, ok := token.(json.Number)
		n, err := strconv.ParseInt(string(number), 10, strconv.IntSize)
		if !ok || err != nil || n < 0 {
			return nil, fmt.Errorf("has %v, want a size: an integer from 0 to %d", token, maxInt)
		}
		values = append(values, int(n))
	}
	_, err := p.next()
	return values, err
}

const maxInt = int(^uint(0) >> 1)

// text reads a string.
func (p parser) text() (string, error) {
	token, err := p.next()
	if err != nil {
		return "", err
	}
	s, ok := token.(string)
	if !ok {
		return "", fmt.Errorf("has %v, want a string", token)
	}
	return s, nil
}

// skip reads and discards a value of any kind.
func (p parser) skip() error {
	var ignored json.RawMessage
	return jsonError(p.Decode(&ignored))
}

func (p parser) open(bracket json.Delim) error {
	token, err := p.next()
	if err != nil {
		return err
	}
	if token != bracket {
		return fmt.Errorf("has %v, want %v", token, bracket)
	}
	return nil
}

func (p parser) next() (json.Token, error) {
	token, err := p.Token()
	return token, jsonError(err)
}

func jsonError(err error) error {
	switch err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		return errors.New("is not JSON: unexpected end")
	}
	return fmt.Errorf("is not JSON: %w", err)
}
