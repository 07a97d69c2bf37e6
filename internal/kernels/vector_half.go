package kernels

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
