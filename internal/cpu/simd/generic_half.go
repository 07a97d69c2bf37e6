package simd

import "math"

func fromBF16Go(dst []float32, src []uint16) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = math.Float32frombits(uint32(v) << 16)
	}
}

func toBF16Go(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = RoundBF16(v)
	}
}

// RoundBF16 returns the bits of the bfloat16 nearest to v, ties to even.
func RoundBF16(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		bits |= 1 << 22 // a mantissa whose upper bits are zero would round to infinity
	} else {
		bits += 0x7fff + bits>>16&1
	}
	return uint16(bits >> 16)
}

func fromF16Go(dst []float32, src []uint16) {
	const rescale = 1 << 112 // the difference of the biases; multiplying gets the subnormal numbers right, too
	dst = dst[:len(src)]
	for i, v := range src {
		sign, bits := uint32(v)&0x8000<<16, uint32(v)&0x7fff<<13
		if v&0x7c00 == 0x7c00 {
			bits |= 0xff << 23
		} else {
			bits = math.Float32bits(math.Float32frombits(bits) * rescale)
		}
		dst[i] = math.Float32frombits(sign | bits)
	}
}

func toF16Go(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = uint16(math.Float32bits(v)>>16&0x8000) | f16Magnitude(abs(v))
	}
}

func f16Magnitude(x float32) uint16 {
	const (
		smallest = 0x1p-14 // normal number
		tooLarge = 65536
	)
	bits := math.Float32bits(x)
	switch {
	case x != x:
		return 0x7e00 | uint16(bits>>13&0x3ff)
	case x >= tooLarge:
		return 0x7c00
	case x < smallest: // multiples of 2⁻²⁴, which adding ½ rounds to
		return uint16(math.Float32bits(x+0.5) - math.Float32bits(0.5))
	}
	bits -= 112 << 23
	return uint16((bits + 0xfff + bits>>13&1) >> 13)
}
