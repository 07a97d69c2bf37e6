package simd

import "math"

// Ints is a format for rows of a KV cache: integers that are multiplied by a scale, which each row has of its own. The zero value
// stands for rows of floating-point numbers.
type Ints uint8

// The formats.
const (
	I8 Ints = 1 + iota // a byte each, -127 to 127
	I4                 // half a byte each, -7 to 7
)

// intsBlock is how many numbers of I4 are a block, of intsBlock/2 bytes: byte i has number i, plus 8, in its lower half and number
// i+intsBlock/2, plus 8, in its upper half. The last block of a row may have fewer, an even number, and is laid out in the same way.
const intsBlock = 32

// Bytes returns the size of n numbers, an even number in I4, without the scale.
func (f Ints) Bytes(n int) int {
	if f == I4 {
		return n / 2
	}
	return n
}

// largest returns the largest of the integers.
func (f Ints) largest() float32 {
	if f == I4 {
		return 7
	}
	return 127
}

// Encode writes a row to dst, and returns its scale: its largest magnitude divided by the largest integer. Numbers are rounded to the
// nearest multiple of the scale, ties to even. If one is not finite, neither is any number that is decoded.
func (f Ints) Encode(dst []byte, row []float32) (scale float32) {
	dst = dst[:f.Bytes(len(row))]
	switch largest := Largest(row); {
	case !(largest <= math.MaxFloat32):
		clear(dst)
		return float32(math.NaN())
	case largest < SmallestRow:
		f.encode(dst, row, 0)
		return 0
	default:
		f.encode(dst, row, f.largest()/largest)
		return largest / f.largest()
	}
}

// SmallestRow is the smallest magnitude that a row must have not to become zero: the inverse of a smaller scale might overflow.
const SmallestRow = 0x1p-100

// Largest returns the largest magnitude of a row, or NaN if there is one.
func Largest(row []float32) float32 {
	top := uint32(0)
	for _, x := range row {
		top = max(top, math.Float32bits(x)&^(1<<31)) // as integers NaN is above infinity, and that above all other numbers
	}
	return math.Float32frombits(top)
}

// encode writes the numbers of row times inverse.
func (f Ints) encode(dst []byte, row []float32, inverse float32) {
	if f == I8 {
		for i, x := range row {
			dst[i] = byte(nearestInt(x * inverse))
		}
		return
	}
	for x := 0; x < len(row); x += intsBlock {
		half := min(intsBlock, len(row)-x) / 2
		low, high := row[x:x+half], row[x+half:x+2*half]
		for i := range low {
			dst[x/2+i] = byte(nearestInt(low[i]*inverse)+8) | byte(nearestInt(high[i]*inverse)+8)<<4
		}
	}
}

// nearestInt returns the integer nearest to x, of which the magnitude is at most 2^21, ties to even.
func nearestInt(x float32) int32 {
	const shift = 3 << 22 // to where float32 have no fraction
	return int32(math.Float32bits(x+shift)) - 0x4b400000
}

// DecodeRows decodes [rows,w], whose rows are lds bytes apart, into rows without gaps.
func (f Ints) DecodeRows(dst []float32, src []byte, lds int, scales []float32, rows, w int) {
	if whole := w / intsBlock * intsBlock; kern.fromInts != nil && whole == w && rows > 0 {
		kern.fromInts(f, dst[:rows*w], src[:(rows-1)*lds+f.Bytes(w)], lds, scales[:rows], w)
		return
	}
	for r := range rows {
		f.decode(dst[r*w:][:w], src[r*lds:][:f.Bytes(w)], scales[r])
	}
}

func (f Ints) decode(dst []float32, src []byte, scale float32) {
	if f == I8 {
		for i, x := range src {
			dst[i] = float32(int8(x)) * scale
		}
		return
	}
	for x := 0; x < len(dst); x += intsBlock {
		half := min(intsBlock, len(dst)-x) / 2
		low, high := dst[x:x+half], dst[x+half:x+2*half]
		for i, b := range src[x/2:][:half] {
			low[i] = float32(int(b&15)-8) * scale
			high[i] = float32(int(b>>4)-8) * scale
		}
	}
}

// Value returns number i of a row of w without its scale. It is the definition of the layout.
func (f Ints) Value(row []byte, i, w int) int {
	if f == I8 {
		return int(int8(row[i]))
	}
	block := i / intsBlock * intsBlock
	half := min(intsBlock, w-block) / 2
	if i -= block; i < half {
		return int(row[block/2+i]&15) - 8
	}
	return int(row[block/2+i-half]>>4) - 8
}

// IntsStep is what AttentionTile.ScoreInts takes a multiple of.
const IntsStep = intsBlock

// Line returns how many numbers are in a cache line.
func (f Ints) Line() int {
	if f == I4 {
		return 128
	}
	return 64
}
