package checkpoints

import (
	"encoding/binary"
	"fmt"
	"math"
)

// bf16ToF32 returns the exact value of the bfloat16 with bits h.
func bf16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// f32ToBF16 returns the bits of the bfloat16 nearest to f, rounding ties to even. A NaN stays a NaN with the same
// leading bits.
func f32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if f != f {
		return nan16(b>>16, 0x7f, 0x40)
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// F16ToF32 returns the exact value of the IEEE 754 half-precision number with bits h.
func F16ToF32(h uint16) float32 {
	sign, abs := uint32(h)&0x8000<<16, uint32(h)&0x7fff<<13
	if abs >= 0x1f<<23 { // infinity or NaN
		return math.Float32frombits(sign | 0xff<<23 | abs)
	}
	// The product rebiases the exponent for float32 and normalises subnormals.
	const rebias = 0x1p112 // 2^(127-15)
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(abs)*rebias))
}

// F32ToF16 returns the bits of the IEEE 754 half-precision number nearest to f, rounding ties to even; a value that
// rounds beyond the largest half becomes infinity. A NaN stays a NaN with the same leading bits.
func F32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign, abs := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case f != f:
		return sign | nan16(abs>>13&0x3ff|0x7c00, 0x3ff, 0x200)
	case abs >= 0x477ff000: // 65520, halfway to the first value out of range
		return sign | 0x7c00
	case abs < 0x38800000: // below 2⁻¹⁴: subnormal; adding 1/2 rounds to units of 2⁻²⁴ in the last bits
		return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-math.Float32bits(0.5))
	}
	abs -= (127 - 15) << 23
	return sign | uint16((abs+0xfff+abs>>13&1)>>13)
}

// nan16 returns the bits of a NaN, setting the quiet bit if truncation left no payload to distinguish it from infinity.
func nan16(h uint32, payload, quiet uint16) uint16 {
	if uint16(h)&payload == 0 {
		return uint16(h) | quiet
	}
	return uint16(h)
}

// DecodeFloats converts src, little-endian elements of dtype d, into dst. F64 is rounded to the nearest float32. It is
// an error if d is not a float dtype (see [DType.IsFloat]) or src does not hold exactly len(dst) elements.
func DecodeFloats(dst []float32, src []byte, d DType) error {
	if err := checkFloats(len(dst), len(src), d); err != nil {
		return err
	}
	le := binary.LittleEndian
	switch d {
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = F16ToF32(le.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = bf16ToF32(le.Uint16(src[2*i:]))
		}
	}
	return nil
}

// EncodeFloats converts src into dst as little-endian elements of dtype d, rounding to nearest, ties to even. It fails
// as [DecodeFloats] does, and if a finite number is out of range for d.
func EncodeFloats(dst []byte, src []float32, d DType) error {
	if err := checkFloats(len(src), len(dst), d); err != nil {
		return err
	}
	le := binary.LittleEndian
	switch d {
	case F64:
		for i, f := range src {
			le.PutUint64(dst[8*i:], math.Float64bits(float64(f)))
		}
	case F32:
		for i, f := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(f))
		}
	case F16:
		return encodeF16(dst, src)
	case BF16:
		return encodeBF16(dst, src)
	}
	return nil
}

// EncodeFinite is like [EncodeFloats] but for computed numbers: NaN and infinity are errors too.
func EncodeFinite(dst []byte, src []float32, d DType) error {
	if err := EncodeFloats(dst, src, d); err != nil {
		return err
	}
	if i := notFinite(dst, d); i >= 0 {
		return rangeError{src[i], "only finite numbers are written; the values that it was computed from are too large"}
	}
	return nil
}

// rangeError reports a number that a dtype cannot represent, or that must not be written.
type rangeError struct {
	value float32
	limit string // range of the dtype, and what to do
}

func (e rangeError) Error() string { return fmt.Sprintf("holds %g, and %s", e.value, e.limit) }

func encodeF16(dst []byte, src []float32) error {
	const infinity = 0x7c00
	for i, f := range src {
		h := F32ToF16(f)
		if h&0x7fff == infinity && !math.IsInf(float64(f), 0) {
			return rangeError{f, "the largest F16 is 65504; write BF16 or F32"}
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return nil
}

func encodeBF16(dst []byte, src []float32) error {
	const infinity = 0x7f80
	for i, f := range src {
		h := f32ToBF16(f)
		if h&0x7fff == infinity && !math.IsInf(float64(f), 0) {
			return rangeError{f, "the largest BF16 is 3.3895e+38; write F32"}
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return nil
}

func checkFloats(elements, bytes int, d DType) error {
	if !d.IsFloat() {
		return fmt.Errorf("dtype %v cannot be converted to float32; want F64, F32, F16 or BF16", d)
	}
	if bytes != elements*d.Size() {
		return fmt.Errorf("%d bytes for %d elements of %v, want %d", bytes, elements, d, elements*d.Size())
	}
	return nil
}
