package raw

import (
	"math"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// form says how the values of a schema's node are written as JSON.
type form struct {
	parquet.Node
	name        string
	fields      []*form
	first, last int  // its leaves are the columns [first,last)
	list        bool // a list in the form that the format prescribes: a group with a repeated field
}

// newForm returns the form of a node whose first leaf is column next, which it advances.
func newForm(n parquet.Node, next *int) *form {
	f := &form{Node: n, first: *next}
	if n.Leaf() {
		*next++
	}
	for _, field := range n.Fields() {
		child := newForm(field, next)
		child.name = field.Name()
		f.fields = append(f.fields, child)
	}
	f.last = *next
	f.list = len(f.fields) == 1 && f.fields[0].Repeated() && isList(n)
	return f
}

func isList(n parquet.Node) bool {
	logical := n.Type().LogicalType()
	if logical == nil {
		return false
	}
	_, ok := logical.Value.(*format.ListType)
	return ok
}

// json appends a row as a JSON object. In columns it puts what is left of each.
func (f *form) json(buf []byte, row parquet.Row) []byte {
	w := rowWriter{buf: buf, columns: make([][]parquet.Value, f.last)}
	from := 0
	for i, v := range row {
		if i+1 == len(row) || row[i+1].Column() != v.Column() {
			w.columns[v.Column()] = row[from : i+1]
			from = i + 1
		}
	}
	w.required(f, 0, 0)
	return w.buf
}

// rowWriter writes a row by the repetition and definition levels of its values (Melnik et al. 2010, "Dremel", section 4.3).
type rowWriter struct {
	buf     []byte
	columns [][]parquet.Value // what is left of each column
}

// value writes the value of a node below repeated and optional nodes whose numbers are repetition and definition.
func (w *rowWriter) value(f *form, repetition, definition int) {
	if f.Optional() {
		definition++
		if w.head(f).DefinitionLevel() < definition {
			w.skip(f)
			w.buf = append(w.buf, "null"...)
			return
		}
	}
	switch {
	case f.Repeated():
		w.repeated(f, f, repetition+1, definition+1)
	case f.list:
		w.repeated(f.fields[0], f.fields[0].element(), repetition+1, definition+1)
	default:
		w.required(f, repetition, definition)
	}
}

// element returns the elements' form, given the repeated node of a list: usually that node is a group of one field, the element.
func (f *form) element() *form {
	if len(f.fields) == 1 && f.name != "array" {
		return f.fields[0]
	}
	return f
}

// repeated writes the values of a repeated node as a list.
func (w *rowWriter) repeated(f, element *form, repetition, definition int) {
	w.buf = append(w.buf, '[')
	if w.head(f).DefinitionLevel() < definition {
		w.skip(f)
		w.buf = append(w.buf, ']')
		return
	}
	for {
		if element == f {
			w.required(f, repetition, definition)
		} else {
			w.value(element, repetition, definition)
		}
		if left := w.columns[f.first]; len(left) == 0 || left[0].RepetitionLevel() < repetition {
			break
		}
		w.buf = append(w.buf, ',')
	}
	w.buf = append(w.buf, ']')
}

// required writes the value of a node that is there.
func (w *rowWriter) required(f *form, repetition, definition int) {
	if f.Leaf() {
		w.buf = appendLeaf(w.buf, w.head(f))
		w.skip(f)
		return
	}
	for i, field := range f.fields {
		w.buf = append(w.buf, "{,"[min(i, 1)])
		w.buf = append(appendString(w.buf, field.name), ':')
		w.value(field, repetition, definition)
	}
	if len(f.fields) == 0 {
		w.buf = append(w.buf, '{')
	}
	w.buf = append(w.buf, '}')
}

// head returns the next value of a node's first column.
func (w *rowWriter) head(f *form) parquet.Value {
	if left := w.columns[f.first]; len(left) > 0 {
		return left[0]
	}
	return parquet.NullValue()
}

// skip passes over a value of each column of a node.
func (w *rowWriter) skip(f *form) {
	for c := f.first; c < f.last; c++ {
		if len(w.columns[c]) > 0 {
			w.columns[c] = w.columns[c][1:]
		}
	}
}

func appendLeaf(buf []byte, v parquet.Value) []byte {
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.AppendBool(buf, v.Boolean())
	case parquet.Int32:
		return strconv.AppendInt(buf, int64(v.Int32()), 10)
	case parquet.Int64:
		return strconv.AppendInt(buf, v.Int64(), 10)
	case parquet.Float:
		return appendFloat(buf, float64(v.Float()), 32)
	case parquet.Double:
		return appendFloat(buf, v.Double(), 64)
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return appendString(buf, v.ByteArray())
	}
	if v.IsNull() {
		return append(buf, "null"...)
	}
	return appendString(buf, v.String())
}

// appendFloat writes what is not finite as Python does.
func appendFloat(buf []byte, x float64, bits int) []byte {
	switch {
	case math.IsNaN(x):
		return append(buf, "NaN"...)
	case math.IsInf(x, 1):
		return append(buf, "Infinity"...)
	case math.IsInf(x, -1):
		return append(buf, "-Infinity"...)
	}
	return strconv.AppendFloat(buf, x, 'g', -1, bits)
}

const hex = "0123456789abcdef"

// appendString writes a string of JSON. It leaves bytes that are not UTF-8 as they are.
func appendString[T string | []byte](buf []byte, s T) []byte {
	buf = append(buf, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			buf = append(buf, '\\', c)
		case c == '\n':
			buf = append(buf, '\\', 'n')
		case c < ' ':
			buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			buf = append(buf, c)
		}
	}
	return append(buf, '"')
}
