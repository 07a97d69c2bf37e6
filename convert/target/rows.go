package target

import (
	"context"
	"io"
	"runtime"
	"slices"
	"sync"

	"gqa/checkpoints"
	"gqa/configs"
)

// span is n consecutive elements of a result, starting at element to. Each is the mean of elements of the source, one
// from each of the runs that start at from.
type span struct {
	to, n int
	from  []int
}

// join returns spans for rows of unit elements, where row i is the mean of the rows sources[i] of the source.
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

// follows reports whether the source's rows continue the runs of s.
func follows(s span, rows []int, unit int) bool {
	return slices.EqualFunc(s.from, rows, func(begin, row int) bool { return begin+s.n == row*unit })
}

// storedRow returns the row of the stored tensor that holds row r of a weight.
func storedRow(w configs.Param, r int) int {
	if w.Rows == nil {
		return r
	}
	return w.Rows[r]
}

// pieceSize is the maximum number of elements of the source, and of the result, that a tensorWriter holds in memory.
const pieceSize = 1 << 18

// tensorWriter writes one tensor of a result from one of the source, piece by piece.
type tensorWriter struct {
	ctx   context.Context // checked between pieces
	src   *checkpoints.Tensor
	dtype checkpoints.DType // of the result
	w     io.Writer
	gain  []float32 // the factors of a row's elements, one per element; nil if there are none
	*buffers
}

// buffers is the memory of one worker, which does not depend on the size of the model.
type buffers struct {
	values, member []float32
	encoded        []byte
}

var bufferPool = sync.Pool{New: func() any { return &buffers{} }}

// flush writes t.values.
func (t *tensorWriter) flush() error {
	n := len(t.values) * t.dtype.Size()
	t.encoded = slices.Grow(t.encoded[:0], n)[:n]
	if err := checkpoints.EncodeFinite(t.encoded, t.values, t.dtype); err != nil {
		return err
	}
	_, err := t.w.Write(t.encoded)
	return err
}

// rowPart is a part of a tensor by rows of the source: the source tensor, its rows, and the factors of their elements.
type rowPart struct {
	from  *checkpoints.Tensor
	spans []span
	gain  []float32
}

// writeRows writes parts in order, in dtype.
func writeRows(ctx context.Context, parts []rowPart, dtype checkpoints.DType, w io.Writer) error {
	memory := bufferPool.Get().(*buffers)
	defer bufferPool.Put(memory)
	for _, p := range parts {
		t := &tensorWriter{ctx: ctx, src: p.from, dtype: dtype, w: w, gain: p.gain, buffers: memory}
		for _, sp := range p.spans {
			if err := t.write(sp); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes a span. Elements that equal the source's are copied byte for byte.
func (t *tensorWriter) write(sp span) error {
	if len(sp.from) == 1 && t.dtype == t.src.DType && t.gain == nil {
		return t.copy(sp.from[0], sp.n)
	}
	for done := 0; done < sp.n; done += pieceSize {
		if err := t.piece(sp.from, done, min(pieceSize, sp.n-done)); err != nil {
			return err
		}
	}
	return nil
}

// copyBytes is the number of bytes that are copied between two checks of the context.
const copyBytes = 64 << 20

// copy copies n elements of the source, starting at element at.
func (t *tensorWriter) copy(at, n int) error {
	size := int64(t.dtype.Size())
	off, left := int64(at)*size, int64(n)*size
	for left > 0 {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		part := min(left, copyBytes)
		if err := t.src.WriteRange(t.w, off, part); err != nil {
			return err
		}
		off, left = off+part, left-part
	}
	return nil
}

// piece writes n elements of a span, starting at element at.
func (t *tensorWriter) piece(from []int, at, n int) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if err := t.mean(from, at, n); err != nil {
		return err
	}
	if t.gain != nil {
		for i := range t.values {
			t.values[i] *= t.gain[(at+i)%len(t.gain)]
		}
	}
	return t.flush()
}

// mean sets t.values to the mean of n elements of each run, starting at element at.
func (t *tensorWriter) mean(from []int, at, n int) error {
	t.values = resize(t.values, n)
	if err := t.src.Float32Range(t.values, from[0]+at); err != nil {
		return err
	}
	for _, begin := range from[1:] {
		t.member = resize(t.member, n)
		if err := t.src.Float32Range(t.member, begin+at); err != nil {
			return err
		}
		add(t.values, t.member)
	}
	divide(t.values, len(from))
	return nil
}

// writeColumns is writeRows for a tensor src that is stored transposed, [in, out]: the spans apply to each stored row, of
// which the result has width elements.
func writeColumns(ctx context.Context, src *checkpoints.Tensor, spans []span, width int, dtype checkpoints.DType, w io.Writer) error {
	memory := bufferPool.Get().(*buffers)
	defer bufferPool.Put(memory)
	t := &tensorWriter{ctx: ctx, src: src, dtype: dtype, w: w, buffers: memory}
	rows := max(1, pieceSize/max(src.Shape[1], width))
	for first := 0; first < src.Shape[0]; first += rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.columns(spans, first, min(rows, src.Shape[0]-first), width); err != nil {
			return err
		}
	}
	return nil
}

// columns writes n stored rows, starting at row first.
func (t *tensorWriter) columns(spans []span, first, n, width int) error {
	wide := t.src.Shape[1]
	t.member, t.values = resize(t.member, n*wide), resize(t.values, n*width)
	if err := t.src.Float32Range(t.member, first*wide); err != nil {
		return err
	}
	for r := range n {
		gather(t.values[r*width:(r+1)*width], t.member[r*wide:(r+1)*wide], spans)
	}
	return t.flush()
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

// reporting wraps write: it checks a context before each tensor and calls progress after it.
func reporting(
	ctx context.Context, progress func(bytes int64), write func(context.Context, checkpoints.Spec, io.Writer) error,
) func(checkpoints.Spec, io.Writer) error {
	var one sync.Mutex
	return func(s checkpoints.Spec, w io.Writer) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := write(ctx, s, w); err != nil {
			return err
		}
		one.Lock()
		defer one.Unlock()
		progress(s.Bytes())
		return nil
	}
}

// workers returns the number of tensors that are computed and written concurrently: each takes a few megabytes, and a few
// saturate a disk.
func workers() int { return min(runtime.GOMAXPROCS(0), 8) }

// reorder returns values with row rows[i] in the place of row i.
func reorder(values []float32, rows []int) []float32 {
	size := len(values) / len(rows)
	result := make([]float32, 0, len(values))
	for _, r := range rows {
		result = append(result, values[r*size:(r+1)*size]...)
	}
	return result
}

// repeat returns count heads, repeating each of the groups in values count/groups times. It returns values itself if the
// numbers are equal.
func repeat(values []float32, groups, count int) []float32 {
	if groups == count {
		return values
	}
	size := len(values) / groups
	heads := make([]float32, 0, count*size)
	for h := range count {
		g := h * groups / count
		heads = append(heads, values[g*size:(g+1)*size]...)
	}
	return heads
}

func add(dst, src []float32) {
	for i, x := range src {
		dst[i] += x
	}
}

func divide(dst []float32, by int) {
	if by == 1 {
		return
	}
	for i := range dst {
		dst[i] /= float32(by)
	}
}
