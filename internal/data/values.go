package data

import (
	"encoding/json"
	"math"
	"strconv"
)

// maxValue is the maximum number of bytes of strings and keys in a conversation.
const maxValue = 64 << 20

// value reads a value of JSON that begins with c: nil, a bool, an int64 or float64, a string, []any or map[string]any.
func (r *recordReader) value(c byte) (any, error) {
	left := maxValue
	return r.nested(c, 1, &left)
}

// nested is value at a nesting depth. left is how many bytes it may still hold.
func (r *recordReader) nested(c byte, depth int, left *int) (v any, err error) {
	if depth > maxDepth {
		return nil, syntax("lists and objects are nested more than %d deep", maxDepth)
	}
	switch c {
	case '"':
		return r.held(left)
	case '{':
		all := map[string]any{}
		return all, r.members(func(key string, c byte) (err error) {
			*left -= len(key)
			all[key], err = r.nested(c, depth+1, left)
			return err
		})
	case '[':
		all := []any{}
		err := r.list(func(c byte) error {
			v, err := r.nested(c, depth+1, left)
			all = append(all, v)
			return err
		})
		return all, err
	}
	text, err := r.literal(c)
	if err != nil {
		return nil, err
	}
	return literalValue(text), nil
}

// held reads a string whose opening quote has been read.
func (r *recordReader) held(left *int) (string, error) {
	var text []byte
	err := r.str(func(more []byte) error {
		text = append(text, more...)
		if *left -= len(more); *left < 0 {
			return syntax("a conversation of more than %d bytes", maxValue)
		}
		return nil
	})
	return replaceInvalid(string(text)), err
}

func literalValue(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	switch text {
	case "NaN":
		return math.NaN()
	case "Infinity":
		return math.Inf(1)
	case "-Infinity":
		return math.Inf(-1)
	}
	var v any
	_ = json.Unmarshal([]byte(text), &v) // literal has checked it
	return v
}
