package checkpoints

import (
	"io"
	"slices"
)

// strided reads a strided view of a storage as if its elements were row-major without gaps.
type strided struct {
	src           io.ReaderAt
	at            int64 // offset of the first element, bytes
	size          int64 // size of the view, bytes
	width         int   // size of an element, bytes
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

// gather fills the start of p with the view's bytes from off on, and returns their number.
func (s *strided) gather(p []byte, off int64) (int, error) {
	first, skip := off/int64(s.width), int(off)%s.width
	if skip != 0 || len(p) < s.width { // a partial element
		one := make([]byte, s.width)
		err := s.fill(one, s.box(first, 1))
		return copy(p, one[skip:]), err
	}
	b := s.box(first, len(p)/s.width)
	n := s.width
	for _, d := range b.dims {
		n *= d.n
	}
	return n, s.fill(p[:n], b)
}

// box is a part of a view that is contiguous in element order and a block in its dimensions.
type box struct {
	at   int64 // offset of its first element in the source, bytes
	dims []boxDim
}

// boxDim is one dimension of a box: n indices, with their distances in bytes in the source (from) and in the result
// (to).
type boxDim struct{ n, from, to int } // in the source, in the result

// box returns the largest box that begins at element first of the view and has at most n elements, which must exist. It
// lists the dimensions with more than one index, from the largest stride in the source to the smallest.
func (s *strided) box(first int64, n int) box {
	b := box{at: s.at}
	inner, whole := 1, true // elements below dimension d, while all inner dimensions are whole
	for d := len(s.shape) - 1; d >= 0; d-- {
		size := int64(s.shape[d])
		index := int(first % size)
		first /= size
		b.at += int64(index) * int64(s.stride[d]) * int64(s.width)
		extent := 1
		if whole {
			extent = min(s.shape[d]-index, n/inner)
		}
		if extent > 1 {
			b.dims = append(b.dims, boxDim{extent, s.stride[d] * s.width, inner * s.width})
		}
		whole = whole && extent == s.shape[d]
		inner *= extent
	}
	slices.SortStableFunc(b.dims, func(x, y boxDim) int { return y.from - x.from })
	return b
}

// fill reads a box into dst: one run of its last dimension for each index of the others.
func (s *strided) fill(dst []byte, b box) error {
	if len(b.dims) == 0 {
		_, err := s.src.ReadAt(dst[:s.width], b.at)
		return err
	}
	last := len(b.dims) - 1
	index := make([]int, last)
	at, to := b.at, 0
	for {
		if err := s.run(dst[to:], at, b.dims[last]); err != nil {
			return err
		}
		d := last - 1
		for ; d >= 0; d-- { // advance the index like an odometer
			dim := b.dims[d]
			at, to = at+int64(dim.from), to+dim.to
			if index[d]++; index[d] < dim.n {
				break
			}
			at, to, index[d] = at-int64(dim.n*dim.from), to-dim.n*dim.to, 0
		}
		if d < 0 {
			return nil
		}
	}
}

// run reads one dimension, starting at at in the source, as many elements at a time as a buffer spans.
func (s *strided) run(dst []byte, at int64, d boxDim) error {
	if d.from == s.width && d.to == s.width {
		_, err := s.src.ReadAt(dst[:d.n*s.width], at)
		return err
	}
	window := buffers.Get().(*[chunkBytes]byte)
	defer buffers.Put(window)
	most := d.n
	if d.from > 0 {
		most = 1 + (chunkBytes-s.width)/d.from
	}
	for done := 0; done < d.n; {
		n := min(most, d.n-done)
		b := window[:(n-1)*d.from+s.width]
		if _, err := s.src.ReadAt(b, at+int64(done*d.from)); err != nil {
			return err
		}
		for i := range n {
			copy(dst[(done+i)*d.to:][:s.width], b[i*d.from:])
		}
		done += n
	}
	return nil
}
