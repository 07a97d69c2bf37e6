// Package offload stores slices of float32 by name: in memory up to a limit, and in a temporary file beyond it.
package offload

import (
	"errors"
	"fmt"
	"os"
	"unsafe"
)

// Store holds slices by name. It is not safe for concurrent writing.
type Store struct {
	dir   string
	limit int64 // bytes in memory
	used  int64
	held  map[string][]float32
	file  *os.File
	end   int64
	at    map[string]place

	unlinked bool // the file has been unlinked
}

// place is the position of a slice in the file: first byte and number of elements.
type place struct {
	offset int64
	n      int
}

// New returns a store that keeps up to limit bytes in memory and the rest in a file in the folder dir.
func New(dir string, limit int64) *Store {
	return &Store{dir: dir, limit: limit, held: map[string][]float32{}, at: map[string]place{}}
}

// Put stores values under name, and owns them from then on. A slice already stored under the name must have the same
// length.
func (s *Store) Put(name string, values []float32) error {
	if s.hold(name, values) {
		return nil
	}
	where, ok := s.at[name]
	if !ok {
		where = place{s.end, len(values)}
	}
	if where.n != len(values) {
		return fmt.Errorf("%s: got %d values, want %d", name, len(values), where.n)
	}
	return s.write(name, where, values)
}

// hold keeps values in memory if the name is already there or if there is room.
func (s *Store) hold(name string, values []float32) bool {
	_, held := s.held[name]
	_, filed := s.at[name]
	size := int64(4 * len(values))
	if !held && (filed || s.used+size > s.limit) {
		return false
	}
	if !held {
		s.used += size
	}
	s.held[name] = values
	return true
}

func (s *Store) write(name string, where place, values []float32) (err error) {
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, ".gqa-*.tmp"); err != nil {
			return err
		}
		s.unlinked = os.Remove(s.file.Name()) == nil // not possible on Windows; elsewhere the file disappears with the process, however it ends
	}
	if _, err := s.file.WriteAt(bytesOf(values), where.offset); err != nil {
		return err
	}
	s.at[name] = where
	s.end = max(s.end, where.offset+int64(4*where.n))
	return nil
}

// Has reports whether a slice is stored under name, without reading it.
func (s *Store) Has(name string) bool {
	_, held := s.held[name]
	_, filed := s.at[name]
	return held || filed
}

// Get returns the slice stored under name, to be read, or to be changed and put back. The second result reports whether
// there is one.
func (s *Store) Get(name string) ([]float32, bool, error) {
	if values, ok := s.held[name]; ok {
		return values, true, nil
	}
	where, ok := s.at[name]
	if !ok {
		return nil, false, nil
	}
	values := make([]float32, where.n)
	_, err := s.file.ReadAt(bytesOf(values), where.offset)
	return values, true, err
}

// Close drops everything and removes the file.
func (s *Store) Close() error {
	if s == nil {
		return nil
	}
	s.held, s.at = nil, nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if !s.unlinked {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	return err
}

// bytesOf views floats as bytes, in native byte order: the file is read by the process that wrote it.
func bytesOf(values []float32) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values))
}
