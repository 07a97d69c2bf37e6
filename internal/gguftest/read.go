// Package gguftest reads GGUF files for tests: strictly, and without sharing any code with the writer.
package gguftest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// File is a GGUF file in memory.
type File struct {
	Keys    map[string]any // string, bool, uint32, int32, float32, or a slice of one of these or of bytes
	Order   []string       // of the keys
	Tensors map[string]Tensor
	Names   []string // of the tensors, in order
}

// Tensor is one tensor.
type Tensor struct {
	Shape []int // outermost dimension first
	Type  uint32
	Data  []byte
}

// Read reads a file and refuses what the specification of version 3 does not allow: duplicates, misaligned or overlapping
// tensors, holes, padding that is not zero, bytes after the end.
func Read(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &reader{Reader: bytes.NewReader(data), all: data}
	f := &File{Keys: map[string]any{}, Tensors: map[string]Tensor{}}
	if magic := string(r.take(4)); magic != "GGUF" {
		return nil, fmt.Errorf("magic is %q", magic)
	}
	if v := r.u32(); v != 3 {
		return nil, fmt.Errorf("version is %d", v)
	}
	tensors, keys := r.u64(), r.u64()
	for range keys {
		name := r.text()
		if _, twice := f.Keys[name]; twice {
			return nil, fmt.Errorf("key %q is there twice", name)
		}
		f.Keys[name], f.Order = r.value(r.u32()), append(f.Order, name)
		if r.err != nil {
			return nil, fmt.Errorf("key %s: %w", name, r.err)
		}
	}
	return f, f.readTensors(r, tensors)
}

// place is the position recorded for a tensor.
type place struct {
	name         string
	offset, size uint64
}

func (f *File) readTensors(r *reader, n uint64) error {
	var places []place
	for range n {
		p, t := place{name: r.text()}, Tensor{}
		p.size = 1
		for range r.u32() {
			d := r.u64()
			t.Shape, p.size = append(t.Shape, int(d)), p.size*d
		}
		slices.Reverse(t.Shape)
		t.Type = r.u32()
		p.size *= map[uint32]uint64{0: 4, 1: 2, 30: 2}[t.Type]
		p.offset = r.u64()
		if _, twice := f.Tensors[p.name]; twice || p.size == 0 || len(t.Shape) > 4 || len(p.name) > 63 {
			return fmt.Errorf("tensor %q: twice, empty, of an unknown type %d, or with too long a name", p.name, t.Type)
		}
		f.Tensors[p.name], f.Names, places = t, append(f.Names, p.name), append(places, p)
	}
	r.pad()
	start := uint64(r.at())
	for _, p := range places {
		if uint64(r.at())-start != p.offset || p.offset%32 != 0 {
			return fmt.Errorf("tensor %s: offset is %d, want %d, a multiple of 32", p.name, p.offset, uint64(r.at())-start)
		}
		t := f.Tensors[p.name]
		t.Data = r.take(int(p.size))
		f.Tensors[p.name] = t
		r.pad()
	}
	if r.err == nil && r.Len() > 0 {
		return fmt.Errorf("%d bytes follow the last tensor", r.Len())
	}
	return r.err
}

// Floats returns a tensor's elements.
func (t Tensor) Floats() []float32 {
	var all []float32
	switch t.Type {
	case 0:
		for i := 0; i < len(t.Data); i += 4 {
			all = append(all, math.Float32frombits(binary.LittleEndian.Uint32(t.Data[i:])))
		}
	case 30:
		for i := 0; i < len(t.Data); i += 2 {
			all = append(all, math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[i:]))<<16))
		}
	case 1:
		for i := 0; i < len(t.Data); i += 2 {
			all = append(all, half(binary.LittleEndian.Uint16(t.Data[i:])))
		}
	}
	return all
}

func half(h uint16) float32 {
	sign, exponent, fraction := float64(1-2*int(h>>15)), int(h>>10&31), float64(h&1023)
	if exponent == 0 {
		return float32(sign * math.Ldexp(fraction, -24))
	}
	return float32(sign * math.Ldexp(1024+fraction, exponent-25))
}

// reader reads little-endian values; after its first error it reads zeros.
type reader struct {
	*bytes.Reader
	all []byte
	err error
}

func (r *reader) at() int { return len(r.all) - r.Len() }

func (r *reader) take(n int) []byte {
	if n < 0 || n > r.Len() || r.err != nil {
		r.err = errors.Join(r.err, io.ErrUnexpectedEOF)
		return make([]byte, 8)
	}
	b := r.all[r.at() : r.at()+n]
	_, err := r.Seek(int64(n), io.SeekCurrent)
	r.err = errors.Join(r.err, err)
	return b
}

// pad skips to a multiple of 32.
func (r *reader) pad() {
	for r.at()%32 != 0 && r.err == nil {
		if b := r.take(1)[0]; b != 0 {
			r.err = fmt.Errorf("padding at byte %d is %d", r.at()-1, b)
		}
	}
}

func (r *reader) u32() uint32  { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64  { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) text() string { return string(r.take(int(r.u64()))) }
func (r *reader) boolean() bool {
	b := r.take(1)[0]
	if b > 1 {
		r.err = fmt.Errorf("a bool is %d", b)
	}
	return b == 1
}

func (r *reader) value(kind uint32) any {
	switch kind {
	case 4:
		return r.u32()
	case 5:
		return int32(r.u32())
	case 6:
		return math.Float32frombits(r.u32())
	case 7:
		return r.boolean()
	case 8:
		return r.text()
	case 9:
		return r.array(r.u32(), int(r.u64()))
	}
	r.err = fmt.Errorf("unknown type %d", kind)
	return nil
}

func (r *reader) array(kind uint32, n int) any {
	switch kind {
	case 0:
		return slices.Clone(r.take(n))
	case 4:
		return repeat(r, n, r.u32)
	case 5:
		return repeat(r, n, func() int32 { return int32(r.u32()) })
	case 6:
		return repeat(r, n, func() float32 { return math.Float32frombits(r.u32()) })
	case 7:
		return repeat(r, n, r.boolean)
	case 8:
		return repeat(r, n, r.text)
	}
	r.err = fmt.Errorf("unknown type of array %d", kind)
	return nil
}

func repeat[T any](r *reader, n int, one func() T) []T {
	all := []T{}
	for len(all) < n && r.err == nil {
		all = append(all, one())
	}
	return all
}
