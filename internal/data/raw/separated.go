package raw

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Separators are the endings of the names of tables of separated values, with what separates them.
var Separators = map[string]rune{".csv": ',', ".tsv": '\t'}

// separated reads a table of separated values as JSON lines.
type separated struct {
	in    *csv.Reader
	names []string // of the columns; nil before the first row
	buf   bytes.Buffer
}

// Separated returns the rows of a table of separated values (RFC 4180), whose first row names the columns, as JSON lines: an object of
// strings for each row. A row with another number of values, or with a stray quote, is an error that names its line.
func Separated(r io.Reader, separator rune) io.Reader {
	s := &separated{in: csv.NewReader(r)}
	s.in.Comma, s.in.ReuseRecord = separator, true
	return s
}

// Read implements io.Reader.
func (s *separated) Read(p []byte) (int, error) {
	for s.buf.Len() == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	return s.buf.Read(p)
}

// fill adds the next row to the buffer.
func (s *separated) fill() error {
	row, err := s.in.Read()
	switch {
	case err == io.EOF:
		return err
	case err != nil:
		return fmt.Errorf("csv: %w", err)
	case s.names == nil:
		s.names = slices.Clone(row)
		for i, name := range row {
			if slices.Contains(row[:i], name) {
				return fmt.Errorf("csv: two columns are named %q in the first row", name)
			}
		}
		return nil
	}
	values := make(map[string]string, len(row))
	for i, value := range row {
		values[s.names[i]] = value
	}
	out := json.NewEncoder(&s.buf)
	out.SetEscapeHTML(false)
	return out.Encode(values)
}
