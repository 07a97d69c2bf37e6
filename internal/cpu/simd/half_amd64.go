package simd

// The tiles by format, less one, and number of rows, less one (less four where A is packed).
var (
	halfDots512 = [2][4]halfTile{
		{dots1x4BF16AVX512, dots2x4BF16AVX512, dots3x4BF16AVX512, dots4x4BF16AVX512},
		{dots1x4F16AVX512, dots2x4F16AVX512, dots3x4F16AVX512, dots4x4F16AVX512},
	}
	halfPairs512 = [2][5]halfTile{
		{dots4x2BF16AVX512, dots5x2BF16AVX512, dots6x2BF16AVX512, dots7x2BF16AVX512, dots8x2BF16AVX512},
		{dots4x2F16AVX512, dots5x2F16AVX512, dots6x2F16AVX512, dots7x2F16AVX512, dots8x2F16AVX512},
	}
	halfTriples512 = [2][5]halfTile{
		{dots4x3BF16AVX512, dots5x3BF16AVX512, dots6x3BF16AVX512, dots7x3BF16AVX512, dots8x3BF16AVX512},
		{dots4x3F16AVX512, dots5x3F16AVX512, dots6x3F16AVX512, dots7x3F16AVX512, dots8x3F16AVX512},
	}
	halfRow512 = [2]halfTile{dots1BF16AVX512, dots1F16AVX512}
	halfRow2   = [2]halfTile{dots1BF16AVX2, dots1F16AVX2}
	halfDots2  = [2][2]halfTile{{dots1x4BF16AVX2, dots2x4BF16AVX2}, {dots1x4F16AVX2, dots2x4F16AVX2}}
)

func halfDotsAVX512(h Half, m, n, k int, a []float32, lda int, b []uint16, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[(m-1)*lda+k-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	tile := halfDots512[h-1][m-1]
	if asStream(m, k) {
		tile = halfRow512[h-1]
	}
	tile(n, k, &a[0], lda, &b[0], ldb, 1, &c[0], ldc, acc)
}

func halfDotsPackedAVX512(h Half, m, n, k int, a []float32, b []uint16, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[m*k-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	three, i := inThrees(n), m-DotsRows
	if three > 0 {
		halfTriples512[h-1][i](three, k, &a[0], 0, &b[0], ldb, 1, &c[0], ldc, acc)
	}
	if three < n {
		halfPairs512[h-1][i](n-three, k, &a[0], 0, &b[three*ldb], ldb, 1, &c[three], ldc, acc)
	}
}

func halfDotsAVX2(h Half, m, n, k int, a []float32, lda int, b []uint16, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[(m-1)*lda+k-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	if asStream(m, k) {
		halfRow2[h-1](n, k, &a[0], lda, &b[0], ldb, 1, &c[0], ldc, acc)
		return
	}
	for i := 0; i < m; i += 2 {
		halfDots2[h-1][min(2, m-i)-1](n, k, &a[i*lda], lda, &b[0], ldb, 1, &c[i*ldc], ldc, acc)
	}
}
