package checkpoints

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"sync"
)

// Tensor is one tensor in a file. Its bytes are read only on request. Its methods may be called concurrently, until the
// checkpoint that it belongs to is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int  // outermost dimension first; empty for a scalar
	File  string // path of the file that holds it

	src          io.ReaderAt
	offset, size int64 // bytes, offset from the start of src
}

// Elements returns the product of the shape, 1 for a scalar.
func (t *Tensor) Elements() int { return t.Spec().Elements() }

// Bytes returns the size of the tensor's data in bytes.
func (t *Tensor) Bytes() int64 { return t.size }

// Open returns a reader of the tensor's raw bytes: little-endian, row-major.
func (t *Tensor) Open() *io.SectionReader {
	return io.NewSectionReader(t.src, t.offset, t.size)
}

// Float32 reads the tensor, row-major, converted to float32. It uses dst's memory for the result if it is large enough.
// It is an error if the dtype is not a float (see [DType.IsFloat]), the file cannot be read, or an element is not a
// finite float32 (a [*NotFiniteError]).
func (t *Tensor) Float32(dst []float32) ([]float32, error) {
	if !t.DType.IsFloat() {
		return nil, fmt.Errorf("%s: tensor %q is %v; want a float tensor (F64, F32, F16 or BF16)", t.File, t.Name, t.DType)
	}
	dst = slices.Grow(dst[:0], t.Elements())[:t.Elements()]
	return dst, t.Float32Range(dst, 0)
}

// Float32Range reads len(dst) elements, row-major, from element at on, converted to float32. It fails as
// [Tensor.Float32] does, and if the range is not within the tensor.
func (t *Tensor) Float32Range(dst []float32, at int) error {
	size := t.DType.Size()
	if err := t.within(int64(at*size), int64(len(dst)*size)); err != nil {
		return err
	}
	return t.chunks(int64(at*size), int64(len(dst)*size), func(b []byte) error {
		n := len(b) / size
		if err := DecodeFloats(dst[:n], b, t.DType); err != nil {
			return err
		}
		i := notFinite(b, t.DType)
		if i < 0 && t.DType == F64 { // a value out of range for float32 has become infinite
			i = infinite(dst[:n])
		}
		if i >= 0 {
			return t.notFiniteError(at+i, floatAt(b, i, t.DType))
		}
		dst, at = dst[n:], at+n
		return nil
	})
}

// Int64 reads a tensor of any integer dtype, row-major. It is an error if the
// dtype is not an integer, or a U64 is beyond the largest int64.
func (t *Tensor) Int64() ([]int64, error) {
	get := intDecoder(t.DType)
	if get == nil {
		return nil, fmt.Errorf("%s: tensor %q is %v; want an integer tensor (I64, I32, I16, I8, U64, U32, U16 or U8)", t.File, t.Name, t.DType)
	}
	dst := make([]int64, 0, t.Elements())
	err := t.chunks(0, t.size, func(b []byte) error {
		for ; len(b) > 0; b = b[t.DType.Size():] {
			v := get(b)
			if v < 0 && t.DType == U64 {
				return fmt.Errorf("%s: tensor %q: element %d is %d, more than an int64 holds", t.File, t.Name, len(dst), uint64(v))
			}
			dst = append(dst, v)
		}
		return nil
	})
	return dst, err
}

// intDecoder returns a function that decodes one element of d, or nil if d is not an integer.
func intDecoder(d DType) func([]byte) int64 {
	le := binary.LittleEndian
	return map[DType]func([]byte) int64{
		I8:  func(b []byte) int64 { return int64(int8(b[0])) },
		U8:  func(b []byte) int64 { return int64(b[0]) },
		I16: func(b []byte) int64 { return int64(int16(le.Uint16(b))) },
		U16: func(b []byte) int64 { return int64(le.Uint16(b)) },
		I32: func(b []byte) int64 { return int64(int32(le.Uint32(b))) },
		U32: func(b []byte) int64 { return int64(le.Uint32(b)) },
		I64: func(b []byte) int64 { return int64(le.Uint64(b)) },
		U64: func(b []byte) int64 { return int64(le.Uint64(b)) },
	}[d]
}

// chunkBytes is a multiple of every dtype's size, and small enough for a chunk to stay in cache between reading and
// conversion.
const chunkBytes = 256 << 10

// buffers are chunks for reading.
var buffers = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// chunks calls f with n of the tensor's bytes from off on, in order. If off is at an element, each chunk holds whole
// elements.
func (t *Tensor) chunks(off, n int64, f func([]byte) error) error {
	buf := buffers.Get().(*[chunkBytes]byte)
	defer buffers.Put(buf)
	for end := off + n; off < end; {
		b := buf[:min(chunkBytes, end-off)]
		if _, err := t.src.ReadAt(b, t.offset+off); err != nil {
			return t.readError(err)
		}
		if err := f(b); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

func (t *Tensor) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: tensor %q: the file ends inside it; it has changed since it was opened", t.File, t.Name)
	}
	return fmt.Errorf("%s: tensor %q: %w", t.File, t.Name, err)
}

// WriteTo copies the tensor's raw bytes to w. It returns errors of w unchanged.
func (t *Tensor) WriteTo(w io.Writer) (int64, error) {
	return t.size, t.WriteRange(w, 0, t.size)
}

// WriteRange copies n of the tensor's raw bytes, from offset off, to w. If w is the writer passed by [Write] and both
// ends are files, the kernel copies between them where it can, without a pass through user memory. Errors of w are
// returned unchanged.
func (t *Tensor) WriteRange(w io.Writer, off, n int64) error {
	if err := t.within(off, n); err != nil {
		return err
	}
	if to, ok := w.(*tensorWriter); ok {
		return t.endedEarly(to.copyFrom(t.src, t.offset+off, n))
	}
	_, err := io.CopyN(w, io.NewSectionReader(t.src, t.offset+off, n), n)
	return t.endedEarly(err)
}

// within returns an error for a range that is not within the tensor.
func (t *Tensor) within(off, n int64) error {
	if off < 0 || n < 0 || off > t.size-n {
		return fmt.Errorf("%s: tensor %q: %d bytes from offset %d requested, but it has %d", t.File, t.Name, n, off, t.size)
	}
	return nil
}

// endedEarly names the tensor inside which a file ends.
func (t *Tensor) endedEarly(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return t.readError(err)
	}
	return err
}

// byteSize returns the size of a tensor in bytes; ok is false if a dimension is negative or the product overflows.
func byteSize(d DType, shape []int) (int64, bool) {
	size := uint64(d.Size())
	for _, n := range shape {
		if n < 0 {
			return 0, false
		}
		hi, lo := bits.Mul64(size, uint64(n))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, false
		}
		size = lo
	}
	return int64(size), true
}
