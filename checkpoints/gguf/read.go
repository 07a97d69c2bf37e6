package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"gqa/checkpoints"
)

// File is a GGUF file that is open for reading.
type File struct {
	file    *os.File
	tensors map[string]tensor
}

// tensor is where a tensor lies.
type tensor struct {
	checkpoints.Spec
	at int64
}

// Open opens a file whose tensors are all F32, F16 or BF16. Its keys are not kept.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	file := &File{file: f, tensors: map[string]tensor{}}
	if err := file.readHead(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Spec returns the name, dtype and shape of a tensor, and whether there is one with that name.
func (f *File) Spec(name string) (checkpoints.Spec, bool) {
	t, ok := f.tensors[name]
	return t.Spec, ok
}

// Floats returns the elements of a tensor.
func (f *File) Floats(name string) ([]float32, error) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, fmt.Errorf("%s: there is no tensor %s", f.file.Name(), name)
	}
	data := make([]byte, t.Bytes())
	if _, err := f.file.ReadAt(data, t.at); err != nil {
		return nil, fmt.Errorf("%s: tensor %s: %w", f.file.Name(), name, err)
	}
	values := make([]float32, t.Elements())
	return values, checkpoints.DecodeFloats(values, data, t.DType)
}

// readHead reads everything before the tensors' data.
func (f *File) readHead() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	h := &head{r: bufio.NewReader(f.file), left: info.Size()}
	if got := h.take(4); string(got) != magic {
		return fmt.Errorf("not a GGUF file: it begins with %q", got)
	}
	if v := h.u32(); v != version && h.err == nil {
		return fmt.Errorf("version %d of GGUF, want %d", v, version)
	}
	tensors, keys := h.u64(), h.u64()
	for i := uint64(0); i < keys && h.err == nil; i++ {
		h.take(h.u64())
		h.skip(h.u32())
	}
	var all []tensor
	for i := uint64(0); i < tensors && h.err == nil; i++ {
		all = append(all, h.tensor())
	}
	if h.err != nil {
		return fmt.Errorf("the head of the file is damaged: %w", h.err)
	}
	start := info.Size() - h.left
	start += padding(start)
	for _, t := range all {
		if t.at += start; t.at < start || t.at > info.Size() || t.Bytes() > info.Size()-t.at {
			return fmt.Errorf("tensor %s ends beyond the end of the file", t.Name)
		}
		f.tensors[t.Name] = t
	}
	return nil
}

// head reads little-endian values. After an error it reads nothing.
type head struct {
	r    *bufio.Reader
	left int64 // bytes of the file
	err  error
}

// take returns the next n bytes; at least 8 bytes, which are 0, after an error.
func (h *head) take(n uint64) []byte {
	if h.err == nil && n > uint64(h.left) {
		h.err = io.ErrUnexpectedEOF
	}
	if h.err != nil {
		return make([]byte, 8)
	}
	data := make([]byte, n)
	_, h.err = io.ReadFull(h.r, data)
	h.left -= int64(n)
	return data
}

func (h *head) u32() uint32 { return binary.LittleEndian.Uint32(h.take(4)) }
func (h *head) u64() uint64 { return binary.LittleEndian.Uint64(h.take(8)) }

// sizes are those of the values of a type, in bytes.
var sizes = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, typeU32: 4, typeI32: 4, typeF32: 4, typeBool: 1, 10: 8, 11: 8, 12: 8}

// skip reads a value of a type.
func (h *head) skip(kind uint32) {
	switch size, ok := sizes[kind]; {
	case ok:
		h.take(size)
	case kind == typeString:
		h.take(h.u64())
	case kind == typeArray:
		element, n := h.u32(), h.u64()
		if element == typeArray {
			h.err = errors.Join(h.err, errors.New("an array of arrays"))
		}
		for i := uint64(0); i < n && h.err == nil; i++ {
			h.skip(element)
		}
	default:
		h.err = errors.Join(h.err, fmt.Errorf("a value of the unknown type %d", kind))
	}
}

// tensor reads where a tensor lies, from the start of the data on.
func (h *head) tensor() (t tensor) {
	t.Name = string(h.take(h.u64()))
	dims := h.u32()
	if dims > maxDims {
		h.err = errors.Join(h.err, fmt.Errorf("tensor %q has %d dimensions", t.Name, dims))
		return t
	}
	elements := uint64(1)
	for range dims {
		n := h.u64()
		if n > math.MaxInt32 || n > 0 && elements > math.MaxInt64/8/n {
			h.err = errors.Join(h.err, fmt.Errorf("tensor %q has a dimension of %d", t.Name, n))
			return t
		}
		elements *= max(n, 1)
		t.Shape = append(t.Shape, int(n))
	}
	slices.Reverse(t.Shape)
	kind := h.u32()
	for dtype, code := range tensorTypes {
		if code == kind {
			t.DType = dtype
		}
	}
	if t.DType == 0 && h.err == nil {
		h.err = fmt.Errorf("tensor %s has ggml's type %d: only F32, F16 and BF16 are read, no quantised tensors", t.Name, kind)
	}
	t.at = int64(h.u64())
	return t
}
