package simd

//go:generate go run -C asm . -out ../kernels_amd64.s -stubs ../stubs_amd64.go -pkg simd

import (
	"slices"

	"golang.org/x/sys/cpu"
)

// amd tells whether the processor is AMD's: Zen 4 reads a stream from memory up to a quarter faster if only the hardware
// prefetches, Intel's Sapphire Rapids a quarter slower. Others were not measured.
var amd = func() bool {
	var maker [12]byte
	vendor(&maker)
	return string(maker[:]) == "AuthenticAMD"
}()

func init() { hardwarePrefetch = amd }

func archPaths() (ps []*path) {
	x := &cpu.X86
	if x.HasAVX512F && x.HasAVX512DQ && x.HasAVX512BW && x.HasAVX512VL && x.HasBMI2 && x.HasFMA {
		if x.HasAMXTile && x.HasAMXBF16 && permitTiles() {
			amxPath := avx512Path
			amxPath.name, amxPath.amx = "amx", &amxKernels
			if x.HasAVX512VNNI {
				amxPath.attention = &attentionVNNI
			}
			ps = append(ps, &amxPath)
		}
		ps = append(ps, &avx512Path)
		if x.HasAVX512BF16 && x.HasAVX512VNNI {
			bf16Path := avx512Path
			bf16Path.name, bf16Path.attention = "avx512bf16", &attentionBF16
			at := len(ps)
			if amd { // elsewhere it was not measured
				at--
			}
			ps = slices.Insert(ps, at, &bf16Path)
		}
	}
	if x.HasAVX2 && x.HasBMI2 && x.HasFMA && x.HasF16C {
		ps = append(ps, &avx2Path)
	}
	return ps
}

var avx512Path = path{
	name: "avx512",
	gemm: GemmKernels{
		MR: 14, NR: 32, PanelRows: 8, PanelColumns: 48, Lane: 16,
		Micro: microAVX512, Panel: panelAVX512, PackN: packNAVX, PackT: packTAVX512,
		Dots: dotsAVX512, DotsPacked: dotsPackedAVX512, HalfDots: halfDotsAVX512, HalfDotsPacked: halfDotsPackedAVX512,
	},
	attention: &attentionAVX512,
	dot:       dotAVX512, sum: sumAVX512, max: maxAVX512,
	add: addAVX512, mul: mulAVX512, axpy: axpyAVX512, mulAdd: mulAddAVX512, scale: scaleAVX512, affine: affineAVX512, rotate: rotateAVX512,
	expSum: expSumAVX512, sigmoid: sigmoidAVX512, slope: slopeAVX512, cdf: cdfAVX512,
	adamw:    func(p, g, m, v []float32, s *AdamWConstants) { adamwAVX512(p, g, m, v, &s.GScale) },
	fromBF16: func(dst []float32, src []uint16) { widen(fromBF16AVX512, fromBF16Go, dst, src) },
	fromF16:  func(dst []float32, src []uint16) { widen(fromF16AVX512, fromF16Go, dst, src) },
	toBF16:   func(dst []uint16, src []float32) { narrow(toBF16AVX512, toBF16Go, dst, src) },
	toF16:    func(dst []uint16, src []float32) { narrow(toF16AVX512, toF16Go, dst, src) },
	fromInts: fromIntsBy(fromI8AVX512, fromI4AVX512),
}

var avx2Path = path{
	name: "avx2",
	gemm: GemmKernels{
		MR: 6, NR: 16, PanelRows: 6, PanelColumns: 16, Lane: 16,
		Micro: microAVX2, Panel: panelAVX2, PackN: packNAVX, PackT: packTAVX2,
		Dots: dotsAVX2, HalfDots: halfDotsAVX2,
	},
	attention: &attentionAVX2,
	dot:       dotAVX2, sum: sumAVX2, max: maxAVX2,
	add: addAVX2, mul: mulAVX2, axpy: axpyAVX2, mulAdd: mulAddAVX2, scale: scaleAVX2, affine: affineAVX2, rotate: rotateAVX2,
	expSum: expSumAVX2, sigmoid: sigmoidAVX2, slope: slopeAVX2, cdf: cdfAVX2,
	adamw:    func(p, g, m, v []float32, s *AdamWConstants) { adamwAVX2(p, g, m, v, &s.GScale) },
	fromBF16: func(dst []float32, src []uint16) { widen(fromBF16AVX2, fromBF16Go, dst, src) },
	fromF16:  func(dst []float32, src []uint16) { widen(fromF16AVX2, fromF16Go, dst, src) },
	toBF16:   func(dst []uint16, src []float32) { narrow(toBF16AVX2, toBF16Go, dst, src) },
	toF16:    func(dst []uint16, src []float32) { narrow(toF16AVX2, toF16Go, dst, src) },
	fromInts: fromIntsBy(fromI8AVX2, fromI4AVX2),
}

type (
	microTile func(n, k int, a *float32, ars, acs int, b *float32, bs int, c *float32, ldc int, acc bool)
	packing   func(rows, panels int, src *float32, ld int, dst *float32, stride int)
)

// The tiles by their number of rows, less one.
var (
	microsAVX512 = [...]microTile{
		micro1xAVX512, micro2xAVX512, micro3xAVX512, micro4xAVX512, micro5xAVX512, micro6xAVX512, micro7xAVX512,
		micro8xAVX512, micro9xAVX512, micro10xAVX512, micro11xAVX512, micro12xAVX512, micro13xAVX512, micro14xAVX512,
	}
	edgesAVX512 = [...]microTile{
		edge1xAVX512, edge2xAVX512, edge3xAVX512, edge4xAVX512, edge5xAVX512, edge6xAVX512, edge7xAVX512,
		edge8xAVX512, edge9xAVX512, edge10xAVX512, edge11xAVX512, edge12xAVX512, edge13xAVX512, edge14xAVX512,
	}
	microsAVX2 = [...]microTile{micro1xAVX2, micro2xAVX2, micro3xAVX2, micro4xAVX2, micro5xAVX2, micro6xAVX2}
	edgesAVX2  = [...]microTile{edge1xAVX2, edge2xAVX2, edge3xAVX2, edge4xAVX2}
	dots512    = [...]dotsTile{dots1x4AVX512, dots2x4AVX512, dots3x4AVX512, dots4x4AVX512}
	pairs512   = [...]dotsTile{dots4x2AVX512, dots5x2AVX512, dots6x2AVX512, dots7x2AVX512, dots8x2AVX512}
	triples512 = [...]dotsTile{dots4x3AVX512, dots5x3AVX512, dots6x3AVX512, dots7x3AVX512, dots8x3AVX512}
	dots2      = [...]dotsTile{dots1x4AVX2, dots2x4AVX2}
)

// packings are the kernels of PackN by the width of a panel.
var packings = map[int]packing{
	6: packN6xAVX2, 8: packN8xAVX2, 16: packN16xAVX2, 32: packN32xAVX512, 48: packN48xAVX512,
}

func packNAVX(w, rows, panels int, src []float32, ld int, dst []float32, stride int) {
	_, _ = src[(rows-1)*ld+panels*w-1], dst[(panels-1)*stride+rows*w-1]
	packings[w](rows, panels, &src[0], ld, &dst[0], stride)
}

func panelAVX512(w, panels, k int, a, b, c []float32, ldc int, acc bool, ahead []float32, lda int) {
	withinPanels(8, w, panels, k, a, b, c, ldc)
	panel := panel8x48AVX512
	if w == 32 {
		panel = panel8x32AVX512
	}
	panel(panels, k, &a[0], &b[0], &c[0], ldc, acc, &ahead[0], lda)
}

func panelAVX2(w, panels, k int, a, b, c []float32, ldc int, acc bool, ahead []float32, lda int) {
	withinPanels(6, w, panels, k, a, b, c, ldc)
	panel6x16AVX2(panels, k, &a[0], &b[0], &c[0], ldc, acc, &ahead[0], lda)
}

// withinPanels is within for GemmKernels.Panel.
func withinPanels(m, w, panels, k int, a, b, c []float32, ldc int) {
	_, _, _ = a[k*m-1], b[panels*k*w-1], c[(m-1)*ldc+panels*w-1]
}

func microAVX512(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	within(m, n, k, a, ars, acs, b, bs, c, ldc)
	tile := edgesAVX512[m-1]
	if n == 32 { // whole registers need no masks
		tile = microsAVX512[m-1]
	}
	tile(n, k, &a[0], ars, acs, &b[0], bs, &c[0], ldc, acc)
}

func microAVX2(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	within(m, n, k, a, ars, acs, b, bs, c, ldc)
	if n == 16 { // whole registers need no masks
		microsAVX2[m-1](n, k, &a[0], ars, acs, &b[0], bs, &c[0], ldc, acc)
		return
	}
	for i := 0; i < m; i += len(edgesAVX2) {
		h := min(len(edgesAVX2), m-i)
		edgesAVX2[h-1](n, k, &a[i*ars], ars, acs, &b[0], bs, &c[i*ldc], ldc, acc)
	}
}

// asStream reports whether a product of m rows of k elements should read B as one stream: it does for a single row that is short
// enough to stay in the first-level cache meanwhile.
func asStream(m, k int) bool {
	const short = 3 << 10 // 12 KiB
	return hardwarePrefetch && m == 1 && k <= short
}

func dotsAVX512(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[(m-1)*lda+k-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	tile := dots512[m-1]
	if asStream(m, k) {
		tile = dots1AVX512
	}
	tile(n, k, &a[0], lda, &b[0], ldb, alpha, &c[0], ldc, acc)
}

func dotsPackedAVX512(m, n, k int, alpha float32, a, b []float32, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[m*((k+MaxLanes-1)&^(MaxLanes-1))-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	three, i := inThrees(n), m-DotsRows
	if three > 0 {
		triples512[i](three, k, &a[0], 0, &b[0], ldb, alpha, &c[0], ldc, acc)
	}
	if three < n {
		pairs512[i](n-three, k, &a[0], 0, &b[three*ldb], ldb, alpha, &c[three], ldc, acc)
	}
}

// inThrees returns how many of n, an even number, are taken in threes if the rest is taken in twos.
func inThrees(n int) int { return n - [...]int{0, 4, 2}[n%3] }

func dotsAVX2(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	_, _, _ = a[(m-1)*lda+k-1], b[(n-1)*ldb+k-1], c[(m-1)*ldc+n-1]
	if asStream(m, k) {
		dots1AVX2(n, k, &a[0], lda, &b[0], ldb, alpha, &c[0], ldc, acc)
		return
	}
	for i := 0; i < m; i += len(dots2) {
		dots2[min(len(dots2), m-i)-1](n, k, &a[i*lda], lda, &b[0], ldb, alpha, &c[i*ldc], ldc, acc)
	}
}

func packTAVX2(dst, src []float32, ld, n, k, nr int) { packTFrom(0, dst, src, ld, n, k, nr) }

func packTAVX512(dst, src []float32, ld, n, k, nr int) {
	whole, rows := k&^7, n&^15
	if whole > 0 && rows > 0 {
		_, _ = src[(rows-1)*ld+whole-1], dst[(whole-1)*nr+rows-1]
		for j := 0; j < rows; j += 16 {
			transpose16AVX512(16, whole, &src[j*ld], ld, &dst[j], nr)
		}
	}
	packTFrom(rows, dst, src, ld, n, k, nr)
}

// packTFrom is GemmKernels.PackT where rows [0,from) are done but for the last columns, too few to make 8.
func packTFrom(from int, dst, src []float32, ld, n, k, nr int) {
	whole := k &^ 7
	if whole > 0 && from < n {
		_, _ = src[(n-1)*ld+whole-1], dst[(whole-1)*nr+n-1]
		for j := from; j < n; j += 8 {
			transpose8AVX2(min(8, n-j), whole, &src[j*ld], ld, &dst[j], nr)
		}
	}
	for p := whole; p < k; p++ {
		for j := range n {
			dst[p*nr+j] = src[j*ld+p]
		}
	}
}
