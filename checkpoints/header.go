package checkpoints

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// maxHeader is the largest header, in bytes, that the reference reader accepts.
	maxHeader = 100_000_000
	// metadataKey is the only key of the header that does not name a tensor.
	metadataKey = "__metadata__"
)

// header is the parsed header of a safetensors file or pickle of a PyTorch file.
type header struct {
	tensors  []*Tensor // safetensors: sorted by offset, counted from the start of the file
	metadata map[string]string
}

// readHeader reads and checks the header of the safetensors file src of size bytes. The file consists of an 8-byte
// little-endian header length, that many bytes of JSON, and the data. Every byte of the data belongs to exactly one
// tensor.
func readHeader(src io.ReaderAt, size int64) (*header, error) {
	text, err := headerText(src, size)
	if err != nil {
		return nil, err
	}
	h := &header{}
	err = parseObject(text, func(p parser, key string) error {
		if key == metadataKey {
			return h.parseMetadata(p)
		}
		return h.parseTensor(p, key)
	})
	if err != nil {
		return nil, fmt.Errorf("the header %w", err)
	}
	start := int64(8 + len(text))
	if err := h.checkLayout(size - start); err != nil {
		return nil, err
	}
	for _, t := range h.tensors {
		t.offset += start
		t.src = src
	}
	return h, nil
}

// headerText returns the JSON header. It allocates no more than the size of the file.
func headerText(src io.ReaderAt, size int64) ([]byte, error) {
	if size < 8 {
		return nil, fmt.Errorf("the file has %d bytes; a safetensors file has at least 8", size)
	}
	var prefix [8]byte
	if _, err := src.ReadAt(prefix[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > uint64(size)-8 {
		return nil, fmt.Errorf("the header length is %d bytes, but only %d follow it; the file is truncated or is not safetensors", n, size-8)
	}
	if n > maxHeader {
		return nil, fmt.Errorf("the header length is %d bytes, more than the format's limit of %d", n, maxHeader)
	}
	text := make([]byte, n)
	_, err := src.ReadAt(text, 8)
	if err == io.EOF && n == 0 {
		err = nil
	}
	return text, err
}

func (h *header) parseMetadata(p parser) error {
	h.metadata = map[string]string{}
	err := p.objectOrNull(func(key string) error {
		value, err := p.text()
		h.metadata[key] = value
		return err
	})
	if err != nil {
		return fmt.Errorf("key %q must map strings to strings: it %w", metadataKey, err)
	}
	return nil
}

// parseTensor parses {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}. Like the reference reader, it
// ignores other keys.
func (h *header) parseTensor(p parser, name string) error {
	t := &Tensor{Name: name}
	var offsets []int
	err := p.object(func(key string) (err error) {
		switch key {
		case "dtype":
			t.DType, err = parseDType(p)
		case "shape":
			t.Shape, err = p.sizes()
		case "data_offsets":
			offsets, err = p.sizes()
		default:
			return p.skip()
		}
		if err != nil {
			return fmt.Errorf("%s %w", key, err)
		}
		return nil
	})
	if err == nil {
		err = t.place(offsets)
	}
	if err != nil {
		return fmt.Errorf("of tensor %q: %w", name, err)
	}
	h.tensors = append(h.tensors, t)
	return nil
}

func parseDType(p parser) (DType, error) {
	s, err := p.text()
	if err != nil {
		return 0, err
	}
	d, err := ParseDType(s)
	if err != nil {
		return 0, fmt.Errorf("is an %w", err)
	}
	return d, nil
}

// place sets the tensor's offset and size after checking them against its shape.
func (t *Tensor) place(offsets []int) error {
	if t.DType == 0 || t.Shape == nil || offsets == nil {
		return errors.New("want the keys dtype, shape and data_offsets")
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return fmt.Errorf("data_offsets are %v, want [begin, end]", offsets)
	}
	t.offset, t.size = int64(offsets[0]), int64(offsets[1]-offsets[0])
	want, ok := byteSize(t.DType, t.Shape)
	if !ok {
		return fmt.Errorf("shape %v of %v is too large", t.Shape, t.DType)
	}
	if t.size != want {
		return fmt.Errorf("data_offsets %v hold %d bytes, but %v %v takes %d", offsets, t.size, t.DType, t.Shape, want)
	}
	return nil
}

// checkLayout sorts the tensors by offset and checks that they tile the data section of size bytes.
func (h *header) checkLayout(size int64) error {
	slices.SortStableFunc(h.tensors, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.size, b.size))
	})
	end, before := int64(0), "the header"
	for _, t := range h.tensors {
		switch {
		case t.size > size-t.offset:
			return fmt.Errorf("tensor %q ends at byte %d of the data, but the file holds %d bytes of data; it is truncated", t.Name, t.offset+t.size, size)
		case t.offset < end:
			return fmt.Errorf("tensor %q starts at byte %d of the data, inside %s, which ends at %d", t.Name, t.offset, before, end)
		case t.offset > end:
			return fmt.Errorf("tensor %q starts at byte %d of the data, but %s ends at %d: the bytes between them belong to no tensor", t.Name, t.offset, before, end)
		}
		end, before = t.offset+t.size, fmt.Sprintf("tensor %q", t.Name)
	}
	if end != size {
		return fmt.Errorf("%s ends at byte %d of the data, but the file holds %d bytes of data", before, end, size)
	}
	return nil
}
