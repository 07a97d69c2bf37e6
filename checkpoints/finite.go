package checkpoints

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// NotFiniteError is the error about a tensor that holds NaN, an infinity, or, where it
// is read as float32, a number beyond that.
type NotFiniteError struct {
	File, Tensor string
	Index        []int // of the first such element
	Value        float64
}

// Error names the tensor, the element and its value.
func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("%s: tensor %q: %s; the file is damaged or its training diverged: use another copy or an earlier checkpoint",
		e.File, e.Tensor, e.Element())
}

// Element is the value and where it stands: "NaN at [17, 3]".
func (e *NotFiniteError) Element() string {
	at := IndexText(e.Index)
	if math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
		return fmt.Sprintf("%v at %s", e.Value, at)
	}
	return fmt.Sprintf("%v at %s is beyond float32", e.Value, at)
}

// IndexText writes where an element is: "[17, 3]".
func IndexText(index []int) string { return strings.ReplaceAll(fmt.Sprint(index), " ", ", ") }

// CheckFinite reads the whole tensor and returns a [*NotFiniteError] if an element is
// NaN or infinite. A tensor that is not of floats (see [DType.IsFloat]) passes unread.
func (t *Tensor) CheckFinite(ctx context.Context) error {
	if !t.DType.IsFloat() {
		return nil
	}
	at := 0
	return t.chunks(0, t.size, func(b []byte) error {
		if i := notFinite(b, t.DType); i >= 0 {
			return t.notFiniteError(at+i, floatAt(b, i, t.DType))
		}
		at += len(b) / t.DType.Size()
		return ctx.Err()
	})
}

func (t *Tensor) notFiniteError(element int, value float64) error {
	index := make([]int, len(t.Shape))
	for d := len(t.Shape) - 1; d >= 0; d-- {
		index[d], element = element%t.Shape[d], element/t.Shape[d]
	}
	return &NotFiniteError{t.File, t.Name, index, value}
}

// notFinite is the index of the first element of b that is NaN or infinite; -1: none is.
func notFinite(b []byte, d DType) int {
	if exponents[d].finite(b) {
		return -1
	}
	for i := 0; ; i++ {
		if f := floatAt(b, i, d); math.IsNaN(f) || math.IsInf(f, 0) {
			return i
		}
	}
}

// exponent is where the exponents of the elements in a word lie, and one in each. An
// element is finite unless all bits of its exponent are set; adding one then carries into
// the sign, which the mask has cleared.
type exponent struct{ mask, one, sign uint64 }

var exponents = map[DType]exponent{
	F64:  {0x7ff0 << 48, 0x0010 << 48, 0x8000 << 48},
	F32:  {0x7f80_0000_7f80_0000, 0x0080_0000_0080_0000, 0x8000_0000_8000_0000},
	BF16: {0x7f80_7f80_7f80_7f80, 0x0080_0080_0080_0080, 0x8000_8000_8000_8000},
	F16:  {0x7c00_7c00_7c00_7c00, 0x0400_0400_0400_0400, 0x8000_8000_8000_8000},
}

// finite says whether all elements of b are.
func (e exponent) finite(b []byte) bool {
	le := binary.LittleEndian
	var c0, c1, c2, c3 uint64 // what was carried, in four chains that do not wait for one another
	for ; len(b) >= 32; b = b[32:] {
		c0 |= le.Uint64(b)&e.mask + e.one
		c1 |= le.Uint64(b[8:])&e.mask + e.one
		c2 |= le.Uint64(b[16:])&e.mask + e.one
		c3 |= le.Uint64(b[24:])&e.mask + e.one
	}
	var rest [32]byte
	copy(rest[:], b)
	for i := 0; i < len(rest); i += 8 {
		c0 |= le.Uint64(rest[i:])&e.mask + e.one
	}
	return (c0|c1|c2|c3)&e.sign == 0
}

// floatAt is element i of b.
func floatAt(b []byte, i int, d DType) float64 {
	le := binary.LittleEndian
	switch b = b[i*d.Size():]; d {
	case F64:
		return math.Float64frombits(le.Uint64(b))
	case F32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case F16:
		return float64(F16ToF32(le.Uint16(b)))
	default:
		return float64(bf16ToF32(le.Uint16(b)))
	}
}

// infinite is the index of the first element of x that is; -1: none is.
func infinite(x []float32) int {
	return slices.IndexFunc(x, func(f float32) bool { return math.Abs(float64(f)) > math.MaxFloat32 })
}
