package simd

func archPaths() []*path { return []*path{&neonPath} } // every arm64 processor has it

var neonPath = path{
	name: "neon",
	gemm: GemmKernels{
		MR: 6, NR: 16, PanelRows: 6, PanelColumns: 16, Lane: 16,
		Micro: microNEON, Panel: panelOfNEON, PackN: packNNEON, PackT: packTNEON,
		Dots: dotsOfNEON, HalfDots: halfDotsNEON,
	},
	attention: &attentionNEON,
	dot:       dotNEON, sum: sumNEON, max: maxNEON,
	add: addNEON, mul: mulNEON, axpy: axpyNEON, mulAdd: mulAddNEON, scale: scaleNEON, affine: affineNEON, rotate: rotateNEON,
	expSum: expSumNEON, sigmoid: sigmoidNEON, slope: slopeNEON, cdf: cdfNEON,
	adamw:    func(p, g, m, v []float32, s *AdamWConstants) { adamwNEON(p, g, m, v, &s.GScale) },
	fromBF16: func(dst []float32, src []uint16) { widen(fromBF16NEON, fromBF16Go, dst, src) },
	fromF16:  func(dst []float32, src []uint16) { widen(fromF16NEON, fromF16Go, dst, src) },
	toBF16:   func(dst []uint16, src []float32) { narrow(toBF16NEON, toBF16Go, dst, src) },
	toF16:    func(dst []uint16, src []float32) { narrow(toF16NEON, toF16Go, dst, src) },
	fromInts: fromIntsBy(fromI8NEON, fromI4NEON),
}

type microTile func(k int, a *float32, ars, acs int, b *float32, bs int, c *float32, ldc int, acc bool)

// The tiles by their number of rows, less one.
var (
	microsNEON = map[int][6]microTile{ // by columns
		16: {micro1x16NEON, micro2x16NEON, micro3x16NEON, micro4x16NEON, micro5x16NEON, micro6x16NEON},
		8:  {micro1x8NEON, micro2x8NEON, micro3x8NEON, micro4x8NEON, micro5x8NEON, micro6x8NEON},
		4:  {micro1x4NEON, micro2x4NEON, micro3x4NEON, micro4x4NEON, micro5x4NEON, micro6x4NEON},
		2:  {micro1x2NEON, micro2x2NEON, micro3x2NEON, micro4x2NEON, micro5x2NEON, micro6x2NEON},
		1:  {micro1x1NEON, micro2x1NEON, micro3x1NEON, micro4x1NEON, micro5x1NEON, micro6x1NEON},
	}
	dotsNEON   = [4]dotsTile{dots1x4NEON, dots2x4NEON, dots3x4NEON, dots4x4NEON}
	halvesNEON = [2][4]halfTile{ // by format, less one
		{dots1x4BF16NEON, dots2x4BF16NEON, dots3x4BF16NEON, dots4x4BF16NEON},
		{dots1x4F16NEON, dots2x4F16NEON, dots3x4F16NEON, dots4x4F16NEON},
	}
)

// microNEON takes the columns in powers of two.
func microNEON(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	within(m, n, k, a, ars, acs, b, bs, c, ldc)
	for j, w := 0, 16; j < n; w /= 2 {
		if w <= n-j {
			microsNEON[w][m-1](k, &a[0], ars, acs, &b[j], bs, &c[j], ldc, acc)
			j += w
		}
	}
}

func panelOfNEON(_, panels, k int, a, b, c []float32, ldc int, acc bool, ahead []float32, lda int) {
	_, _, _ = a[k*6-1], b[panels*k*16-1], c[5*ldc+panels*16-1]
	panelNEON(panels, k, &a[0], &b[0], &c[0], ldc, acc, &ahead[0], lda)
}

func dotsOfNEON(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[(m-1)*lda+k-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	dotsNEON[m-1](n, k, &a[0], lda, &b[0], ldb, alpha, &c[0], ldc, acc)
}

func halfDotsNEON(h Half, m, n, k int, a []float32, lda int, b []uint16, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[(m-1)*lda+k-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	halvesNEON[h-1][m-1](n, k, &a[0], lda, &b[0], ldb, 1, &c[0], ldc, acc)
}

func packNNEON(w, rows, panels int, src []float32, ld int, dst []float32, stride int) {
	_, _ = src[(rows-1)*ld+panels*w-1], dst[(panels-1)*stride+rows*w-1]
	if w == 16 {
		packN16xNEON(rows, panels, &src[0], ld, &dst[0], stride)
	} else {
		packN6xNEON(rows, panels, &src[0], ld, &dst[0], stride)
	}
}

// packTNEON transposes squares of 4 by 4; what is left over at the edges is moved in Go.
func packTNEON(dst, src []float32, ld, n, k, nr int) {
	rows, whole := n&^3, k&^3
	if rows > 0 && whole > 0 {
		_, _ = src[(rows-1)*ld+whole-1], dst[(whole-1)*nr+rows-1]
		for j := 0; j < rows; j += 4 {
			transpose4NEON(whole, &src[j*ld], ld, &dst[j], nr)
		}
	} else {
		whole = 0
	}
	if whole < k && rows > 0 {
		packTGo(dst[whole*nr:], src[whole:], ld, rows, k-whole, nr)
	}
	if rows < n {
		packTGo(dst[rows:], src[rows*ld:], ld, n-rows, k, nr)
	}
}
