package checkpoints

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"slices"
)

// Tensor is a promise of bytes: where one tensor lies in a file. Nothing is read
// until asked. Its methods may be called by several goroutines at once, until the
// checkpoint it came from is closed.
type Tensor struct {
	Name  string
	DType DType
	Shape []int  // outermost dimension first; empty for a scalar
	File  string // path of the file that holds it

	src          io.ReaderAt
	offset, size int64 // bytes, from the start of src
}

// Elements returns the product of the shape: 1 for a scalar.
func (t *Tensor) Elements() int {
	n := 1
	for _, dim := range t.Shape {
		n *= dim
	}
	return n
}

// Bytes returns the size of the tensor's data.
func (t *Tensor) Bytes() int64 { return t.size }

// Open returns the tensor's raw bytes: little-endian, row-major.
func (t *Tensor) Open() *io.SectionReader {
	return io.NewSectionReader(t.src, t.offset, t.size)
}

// Float32 reads the tensor, row-major, converted to float32. The result reuses dst's
// memory if it is large enough. It is an error if the dtype is not a float
// (see [DType.IsFloat]) or the file cannot be read.
func (t *Tensor) Float32(dst []float32) ([]float32, error) {
	if !t.DType.IsFloat() {
		return nil, fmt.Errorf("%s: tensor %q is %v; want a float tensor (F64, F32, F16 or BF16)", t.File, t.Name, t.DType)
	}
	dst = slices.Grow(dst[:0], t.Elements())[:t.Elements()]
	rest := dst
	err := t.chunks(func(b []byte) error {
		n := len(b) / t.DType.Size()
		err := DecodeFloats(rest[:n], b, t.DType)
		rest = rest[n:]
		return err
	})
	return dst, err
}

// Int64 reads a tensor of any integer dtype, row-major. It is an error if the
// dtype is not an integer, or a U64 is beyond the largest int64.
func (t *Tensor) Int64() ([]int64, error) {
	get := intDecoder(t.DType)
	if get == nil {
		return nil, fmt.Errorf("%s: tensor %q is %v; want an integer tensor (I64, I32, I16, I8, U64, U32, U16 or U8)", t.File, t.Name, t.DType)
	}
	dst := make([]int64, 0, t.Elements())
	err := t.chunks(func(b []byte) error {
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

// intDecoder returns what reads one element of d, nil if d is not an integer.
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

// chunkBytes is a multiple of every dtype's size, and small enough to stay in cache
// between the read and the conversion.
const chunkBytes = 256 << 10

// chunks calls f with the tensor's bytes in order, whole elements at a time.
func (t *Tensor) chunks(f func([]byte) error) error {
	buf := make([]byte, min(chunkBytes, t.size))
	for done := int64(0); done < t.size; done += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), t.size-done)]
		if _, err := t.src.ReadAt(buf, t.offset+done); err != nil {
			return t.readError(err)
		}
		if err := f(buf); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tensor) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: tensor %q: the file ends inside it: it changed since it was opened", t.File, t.Name)
	}
	return fmt.Errorf("%s: tensor %q: %w", t.File, t.Name, err)
}

// WriteTo copies the tensor's raw bytes to w. Where both ends are files the system
// copies between them, without a pass through memory if it can. Errors of w are
// returned as they are.
func (t *Tensor) WriteTo(w io.Writer) (int64, error) {
	src, done := t.section()
	defer done()
	n, err := io.CopyN(w, src, t.size)
	if err == io.EOF {
		err = t.readError(err)
	}
	return n, err
}

// section returns a reader at the start of the tensor. Only from a file with a position
// of its own can the system copy, so one is opened if that is worth it.
func (t *Tensor) section() (r io.Reader, done func()) {
	if shared, ok := t.src.(*os.File); ok && t.size >= chunkBytes {
		if f := reopen(shared); f != nil {
			if _, err := f.Seek(t.offset, io.SeekStart); err == nil {
				return f, func() { f.Close() }
			}
			f.Close()
		}
	}
	return t.Open(), func() {}
}

// reopen opens the file that f has open once more, or returns nil if its name
// leads elsewhere now.
func reopen(f *os.File) *os.File {
	again, err := os.Open(f.Name())
	if err != nil {
		return nil
	}
	a, errA := f.Stat()
	b, errB := again.Stat()
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		again.Close()
		return nil
	}
	return again
}

// byteSize returns the bytes of a tensor, false if a dimension is negative or the
// product overflows.
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
