package kernels

// Half is a format of floating-point numbers of 16 bits. The zero value, F32, is none: float32.
type Half uint8

// The formats: what weights and KV caches are stored in to halve the bytes read.
const (
	F32  Half = iota // float32
	BF16             // bfloat16: 8 bits of exponent, 7 of mantissa; the upper half of a float32
	F16              // IEEE 754 binary16: 5 bits of exponent, 10 of mantissa
)

// halfLanes is a multiple of the float32 lanes of every path.
const halfLanes = 16

// EncodeHalf writes src to dst in the format h, BF16 or F16, rounded to nearest, ties to even. What is too large becomes
// infinite.
func EncodeHalf(h Half, dst []uint16, src []float32) {
	if len(src) <= blockElements {
		h.narrow(dst, src)
		return
	}
	For(len(src), blockElements, func(lo, hi int) { h.narrow(dst[lo:hi], src[lo:hi]) })
}

// DecodeHalf writes src, in the format h, BF16 or F16, to dst, exactly.
func DecodeHalf(h Half, dst []float32, src []uint16) {
	if len(src) <= blockElements {
		h.widen(dst, src)
		return
	}
	For(len(src), blockElements, func(lo, hi int) { h.widen(dst[lo:hi], src[lo:hi]) })
}

// GatherHalf is Gather from a table in the format h.
func GatherHalf(h Half, y []float32, table []uint16, ids []int32, dim int) {
	for i, id := range ids {
		h.widen(y[i*dim:][:dim], table[int(id)*dim:][:dim])
	}
}

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
