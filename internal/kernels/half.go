package kernels

// Half is a format of floating-point numbers of 16 bits. The zero value, F32, is none: float32.
type Half uint8

// The formats: what weights and KV caches are stored in to halve the bytes read.
const (
	F32  Half = iota // float32
	BF16             // bfloat16: 8 bits of exponent, 7 of mantissa; the upper half of a float32
	F16              // IEEE 754 binary16: 5 bits of exponent, 10 of mantissa
)

func (h Half) narrow(dst []uint16, src []float32) {
	if h == F16 {
		kern.toF16(dst[:len(src)], src)
	} else {
		kern.toBF16(dst[:len(src)], src)
	}
}

func (h Half) widen(dst []float32, src []uint16) {
	if h == F16 {
		kern.fromF16(dst[:len(src)], src)
	} else {
		kern.fromBF16(dst[:len(src)], src)
	}
}

// widenRows converts [rows,w] from a stride into rows without gaps.
func (h Half) widenRows(dst []float32, src []uint16, lds, rows, w int) {
	if lds == w {
		h.widen(dst, src[:rows*w])
		return
	}
	for r := range rows {
		h.widen(dst[r*w:], src[r*lds:][:w])
	}
}
