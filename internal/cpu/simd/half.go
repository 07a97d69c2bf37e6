package simd

// Half is a floating-point format of 16 bits. The zero value, F32, stands for float32.
type Half uint8

// The formats. Weights and KV caches are stored in 16 bits to halve the bytes read.
const (
	F32  Half = iota // float32
	BF16             // bfloat16: 8 bits of exponent, 7 of mantissa; the upper half of a float32
	F16              // IEEE 754 binary16: 5 bits of exponent, 10 of mantissa
)

// Encode writes src to dst in the format h, BF16 or F16, rounded to nearest, ties to even. What is too large becomes infinite.
func (h Half) Encode(dst []uint16, src []float32) {
	if h == F16 {
		kern.toF16(dst[:len(src)], src)
	} else {
		kern.toBF16(dst[:len(src)], src)
	}
}

// Decode writes src, in the format h, BF16 or F16, to dst, exactly.
func (h Half) Decode(dst []float32, src []uint16) {
	if h == F16 {
		kern.fromF16(dst[:len(src)], src)
	} else {
		kern.fromBF16(dst[:len(src)], src)
	}
}

// DecodeRows decodes [rows,w], whose rows are lds apart, into rows without gaps.
func (h Half) DecodeRows(dst []float32, src []uint16, lds, rows, w int) {
	if lds == w {
		h.Decode(dst, src[:rows*w])
		return
	}
	for r := range rows {
		h.Decode(dst[r*w:], src[r*lds:][:w])
	}
}
