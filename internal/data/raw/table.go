package raw

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// table reads a file of Parquet as JSON lines.
type table struct {
	file   *os.File
	groups []parquet.RowGroup // those not begun yet
	keep   func(parquet.RowGroup) (parquet.RowGroup, error)
	rows   parquet.Rows // of the current group; nil if there is none
	form   *form
	batch  []parquet.Row
	buf    []byte
	at     int // bytes of buf that have been read
}

// batchRows is the number of rows that are decoded at a time. Texts may be long.
const batchRows = 16

func openTable(f *os.File, columns []string) (t *table, err error) {
	defer recovered(&err)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	const magic = "PAR1"
	start, end := make([]byte, len(magic)), make([]byte, len(magic))
	n, _ := f.ReadAt(start, 0) // what cannot be read is not the magic
	_, _ = f.ReadAt(end, info.Size()-int64(len(magic)))
	switch {
	case string(start) == LFS[:len(magic)]:
		return nil, errors.New("the file " + LFSAdvice)
	case string(start) != magic:
		return nil, fmt.Errorf("the file is not Parquet, although its name ends in %s: it begins with %q, want %q", Parquet, start[:n], magic)
	case string(end) != magic || info.Size() < 2*int64(len(magic)):
		return nil, fmt.Errorf("the file is only a part of one of Parquet: it has %d bytes and ends with %q, want %q", info.Size(), end, magic)
	}
	in, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(64<<10))
	if err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	t = &table{file: f, groups: slices.Clone(in.RowGroups()), batch: make([]parquet.Row, batchRows)}
	schema := in.Schema()
	if kept := only(schema, columns); kept != nil {
		whole := schema
		schema = parquet.NewSchema(whole.Name(), kept)
		convert, err := parquet.Convert(schema, whole)
		if err != nil {
			return nil, fmt.Errorf("parquet: %w", err)
		}
		t.keep = func(g parquet.RowGroup) (parquet.RowGroup, error) { return parquet.ConvertRowGroup(g, convert), nil }
	}
	t.form = newForm(schema, new(int))
	return t, nil
}

// only returns the columns of a schema that are named; nil if that is none or all of them.
func only(schema *parquet.Schema, names []string) parquet.Group {
	kept := parquet.Group{}
	for _, f := range schema.Fields() {
		if slices.Contains(names, f.Name()) {
			kept[f.Name()] = f
		}
	}
	if len(kept) == 0 || len(kept) == len(schema.Fields()) {
		return nil
	}
	return kept
}

// recovered turns a panic of the library, for which damaged files can be the cause, into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("parquet: the file is damaged: %v", r)
	}
}

// Read implements io.Reader.
func (t *table) Read(p []byte) (n int, err error) {
	defer recovered(&err)
	for t.at == len(t.buf) {
		if err := t.fill(); err != nil {
			return 0, err
		}
	}
	n = copy(p, t.buf[t.at:])
	t.at += n
	return n, nil
}

// fill replaces the buffer by the next rows.
func (t *table) fill() error {
	if t.rows == nil {
		if len(t.groups) == 0 {
			return io.EOF
		}
		group := t.groups[0]
		t.groups = t.groups[1:]
		if t.keep != nil {
			var err error
			if group, err = t.keep(group); err != nil {
				return err
			}
		}
		t.rows = group.Rows()
	}
	n, err := t.rows.ReadRows(t.batch)
	t.buf, t.at = t.buf[:0], 0
	for _, row := range t.batch[:n] {
		t.buf = append(t.form.json(t.buf, row), '\n')
	}
	if errors.Is(err, io.EOF) || n == 0 && err == nil {
		err = t.rows.Close()
		t.rows = nil
	}
	if err != nil {
		return fmt.Errorf("parquet: %w", err)
	}
	return nil
}

// Close implements io.Closer.
func (t *table) Close() error {
	var err error
	if t.rows != nil {
		err = t.rows.Close()
	}
	return errors.Join(err, t.file.Close())
}
