package simd

import (
	"math"
	"sort"
)

// fields returns the bits of exponent and mantissa.
func (h Half) fields() (exponent, mantissa int) {
	if h == F16 {
		return 5, 10
	}
	return 8, 7
}

// infinity returns the bits of +Inf.
func (h Half) infinity() uint16 {
	e, m := h.fields()
	return (1<<e - 1) << m
}

// magnitude returns the value of bits without a sign, taking infinity for the number that would come next.
func (h Half) magnitude(bits uint16) float64 {
	e, m := h.fields()
	exponent, mantissa := int(bits>>m), int(bits)&(1<<m-1)
	if exponent > 0 {
		mantissa += 1 << m
	}
	return math.Ldexp(float64(mantissa), max(exponent, 1)-(1<<(e-1)-1)-m)
}

// Value returns the number that the bits stand for.
func (h Half) Value(bits uint16) float32 {
	v := h.magnitude(bits &^ (1 << 15))
	switch inf := h.infinity(); {
	case bits&^(1<<15) == inf:
		v = math.Inf(1)
	case bits&^(1<<15) > inf:
		v = math.NaN()
	}
	return float32(math.Copysign(v, 1-float64(bits>>15)*2))
}

// Nearest returns the bits of the number of the format that is nearest to x, ties to even.
func (h Half) Nearest(x float32) uint16 {
	var sign uint16
	if math.Signbit(float64(x)) {
		sign = 1 << 15
	}
	v, inf := math.Abs(float64(x)), h.infinity()
	if v != v {
		return sign | inf | inf>>1
	}
	above := uint16(sort.Search(int(inf), func(i int) bool { return h.magnitude(uint16(i)) >= v }))
	if above == 0 {
		return sign
	}
	below := above - 1
	up, down := h.magnitude(above)-v, v-h.magnitude(below)
	if down < up || down == up && below%2 == 0 {
		return sign | below
	}
	return sign | above
}

// EncodeRef is the definition of Encode.
func (h Half) EncodeRef(dst []uint16, src []float32) {
	for i, v := range src {
		dst[i] = h.Nearest(v)
	}
}

// DecodeRef is the definition of Decode.
func (h Half) DecodeRef(dst []float32, src []uint16) {
	for i, v := range src {
		dst[i] = h.Value(v)
	}
}

func toBF16Ref(dst []uint16, src []float32)   { BF16.EncodeRef(dst, src) }
func toF16Ref(dst []uint16, src []float32)    { F16.EncodeRef(dst, src) }
func fromBF16Ref(dst []float32, src []uint16) { BF16.DecodeRef(dst, src) }
func fromF16Ref(dst []float32, src []uint16)  { F16.DecodeRef(dst, src) }
