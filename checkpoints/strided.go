package checkpoints

import (
	"cmp"
	"io"
	"slices"
)

// strided reads a view of a storage whose elements do not lie row-major without gaps, as if
// they did.
type strided struct {
	src           io.ReaderAt
	at            int64 // of the first element, bytes
	size          int64 // bytes of the view
	width         int   // bytes of an element
	shape, stride []int // elements
}

// ReadAt implements [io.ReaderAt].
func (s *strided) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(0, s.size-off)))
	for done := 0; done < n; {
		piece, err := s.gather(p[done:n], off+int64(done))
		if err != nil {
			return done, err
		}
		done += piece
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// element is one of those wanted: where it lies in the storage, and in what is read.
type element struct{ from, to int64 } // bytes

// gather fills the start of p, and returns how much, with the view's bytes from off on.
func (s *strided) gather(p []byte, off int64) (int, error) {
	width := int64(s.width)
	first, skip := off/width, off%width
	n := min((int64(len(p))+skip+width-1)/width, chunkBytes/width)
	elements := make([]element, n)
	for i := range elements {
		elements[i] = element{s.position(first + int64(i)), int64(i) * width}
	}
	slices.SortFunc(elements, func(a, b element) int { return cmp.Compare(a.from, b.from) })
	piece := make([]byte, n*width)
	if err := s.fetch(piece, elements); err != nil {
		return 0, err
	}
	return copy(p, piece[skip:]), nil
}

// position is where element i of the view lies in the source, in bytes.
func (s *strided) position(i int64) int64 {
	at := int64(0)
	for d := len(s.shape) - 1; d >= 0; d-- {
		at += i % int64(s.shape[d]) * int64(s.stride[d])
		i /= int64(s.shape[d])
	}
	return s.at + at*int64(s.width)
}

// fetch reads elements, sorted by place, into dst: what lies close together in one read.
func (s *strided) fetch(dst []byte, elements []element) error {
	const gap, most = 4096, chunkBytes
	window := buffers.Get().(*[chunkBytes]byte)
	defer buffers.Put(window)
	width := int64(s.width)
	for len(elements) > 0 {
		begin, n := elements[0].from, 1
		for n < len(elements) && elements[n].from-elements[n-1].from <= gap && elements[n].from-begin+width <= most {
			n++
		}
		b := window[:elements[n-1].from-begin+width]
		if _, err := s.src.ReadAt(b, begin); err != nil {
			return err
		}
		for _, e := range elements[:n] {
			copy(dst[e.to:e.to+width], b[e.from-begin:])
		}
		elements = elements[n:]
	}
	return nil
}
