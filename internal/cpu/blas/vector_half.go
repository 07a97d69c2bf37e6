package blas

import (
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// EncodeHalf writes src to dst in the format h, BF16 or F16, rounded to nearest, ties to even. What is too large becomes
// infinite.
func EncodeHalf(h simd.Half, dst []uint16, src []float32) {
	if len(src) <= pool.BlockElements {
		h.Encode(dst, src)
		return
	}
	pool.For(len(src), pool.BlockElements, func(lo, hi int) { h.Encode(dst[lo:hi], src[lo:hi]) })
}

// DecodeHalf writes src, in the format h, BF16 or F16, to dst, exactly.
func DecodeHalf(h simd.Half, dst []float32, src []uint16) {
	if len(src) <= pool.BlockElements {
		h.Decode(dst, src)
		return
	}
	pool.For(len(src), pool.BlockElements, func(lo, hi int) { h.Decode(dst[lo:hi], src[lo:hi]) })
}
