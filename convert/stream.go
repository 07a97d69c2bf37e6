package convert

import (
	"context"
	"io"
	"slices"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
)

// span is a run of a result: n elements from to on, each the mean of as many elements of the source as there are runs in it.
type span struct {
	to, n int
	from  []int // where the runs begin
}

// spans says what a stored tensor is made of, in the order in which it is stored. unit is how many elements of a row lie
// together: all of them or, in a transposed tensor, one.
func (p *Plan) spans(t pooledTensor, unit int) []span {
	sources := make([][]int, t.rows())
	for i, w := range t.to {
		for r := range w.Shape[0] {
			sources[storedRow(w, r)] = p.members(t.from[i], t.groups[i], w.KVHeads, r)
		}
	}
	return join(sources, unit)
}

// join makes spans of rows of unit elements, each the mean of the given rows of a source.
func join(sources [][]int, unit int) []span {
	var all []span
	for to, from := range sources {
		if last := len(all) - 1; last >= 0 && follows(all[last], from, unit) {
			all[last].n += unit
			continue
		}
		s := span{to: to * unit, n: unit}
		for _, row := range from {
			s.from = append(s.from, row*unit)
		}
		all = append(all, s)
	}
	return all
}

// follows says whether the source's rows continue the runs of s.
func follows(s span, rows []int, unit int) bool {
	return slices.EqualFunc(s.from, rows, func(begin, row int) bool { return begin+s.n == row*unit })
}

// members lists the stored rows of the source's weight w that row r of the result's is the mean of; groups is how many KV
// heads it becomes, 0 where it has none, and heads how many the result repeats them to.
func (p *Plan) members(w configs.Param, groups, heads, r int) []int {
	if groups == 0 {
		return []int{storedRow(w, r)}
	}
	size, wide := w.KVHeads/groups, w.Shape[0]/w.KVHeads // heads of a group, rows of a head
	group, dim := r/wide*groups/heads, r%wide
	if p.Method == First {
		return []int{storedRow(w, group*size*wide+dim)}
	}
	rows := make([]int, size)
	for i := range rows {
		rows[i] = storedRow(w, (group*size+i)*wide+dim)
	}
	return rows
}

// storedRow is where row r of a weight is among the rows of the tensor that holds it.
func storedRow(w configs.Param, r int) int {
	if w.Rows == nil {
		return r
	}
	return w.Rows[r]
}

// rows is how many rows of the forward pass the result holds.
func (t pooledTensor) rows() (n int) {
	for _, w := range t.to {
		n += w.Shape[0]
	}
	return n
}

// pieceSize is the most elements that a stream holds of the source, and of the result.
const pieceSize = 1 << 18

// stream computes one tensor of the result from one of the source, a piece at a time.
type stream struct {
	ctx   context.Context // looked at between pieces
	src   *checkpoints.Tensor
	dtype checkpoints.DType // of the result
	w     io.Writer
	gain  []float32 // what the elements of a row, as many, are multiplied with; nil: nothing
	*buffers
}

// buffers are what a worker holds in memory, whatever the size of the model.
type buffers struct {
	values, member []float32
	encoded        []byte
}

var pooledBuffers = sync.Pool{New: func() any { return &buffers{} }}

// emit writes the values.
func (s *stream) emit() error {
	n := len(s.values) * s.dtype.Size()
	s.encoded = slices.Grow(s.encoded[:0], n)[:n]
	if err := checkpoints.EncodeFinite(s.encoded, s.values, s.dtype); err != nil {
		return err
	}
	_, err := s.w.Write(s.encoded)
	return err
}

// write writes spans that follow one another. What is the source's own is copied as it is.
func (s *stream) write(spans []span) error {
	for _, sp := range spans {
		if len(sp.from) == 1 && s.dtype == s.src.DType && s.gain == nil {
			if err := s.copy(sp.from[0], sp.n); err != nil {
				return err
			}
			continue
		}
		for done := 0; done < sp.n; done += pieceSize {
			if err := s.piece(sp.from, done, min(pieceSize, sp.n-done)); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyBytes are copied at a time.
const copyBytes = 64 << 20

// copy copies n elements of the source, from its element at on.
func (s *stream) copy(at, n int) error {
	size := int64(s.dtype.Size())
	off, left := int64(at)*size, int64(n)*size
	for left > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		part := min(left, copyBytes)
		if err := s.src.WriteRange(s.w, off, part); err != nil {
			return err
		}
		off, left = off+part, left-part
	}
	return nil
}

// piece writes n elements of a span, from its element at on.
func (s *stream) piece(from []int, at, n int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	s.values = resize(s.values, n)
	if err := s.src.Float32Range(s.values, from[0]+at); err != nil {
		return err
	}
	for _, begin := range from[1:] {
		s.member = resize(s.member, n)
		if err := s.src.Float32Range(s.member, begin+at); err != nil {
			return err
		}
		add(s.values, s.member)
	}
	divide(s.values, len(from))
	if s.gain != nil {
		for i := range s.values {
			s.values[i] *= s.gain[(at+i)%len(s.gain)]
		}
	}
	return s.emit()
}

// columns is write for a tensor stored as shape [in, out]: the spans are of each stored row, which is width wide in the result.
func (s *stream) columns(spans []span, shape []int, width int) error {
	rows, wide := max(1, pieceSize/max(shape[1], width)), shape[1]
	for first := 0; first < shape[0]; first += rows {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		n := min(rows, shape[0]-first)
		s.member, s.values = resize(s.member, n*wide), resize(s.values, n*width)
		if err := s.src.Float32Range(s.member, first*wide); err != nil {
			return err
		}
		for r := range n {
			gather(s.values[r*width:(r+1)*width], s.member[r*wide:(r+1)*wide], spans)
		}
		if err := s.emit(); err != nil {
			return err
		}
	}
	return nil
}

// gather computes the spans of one stored row.
func gather(dst, src []float32, spans []span) {
	for _, sp := range spans {
		run := dst[sp.to : sp.to+sp.n]
		copy(run, src[sp.from[0]:])
		for _, begin := range sp.from[1:] {
			add(run, src[begin:begin+sp.n])
		}
		divide(run, len(sp.from))
	}
}

func resize(s []float32, n int) []float32 { return slices.Grow(s[:0], n)[:n] }
