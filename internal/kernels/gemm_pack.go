package kernels

import (
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// panelGap keeps the panels of A, whose sizes are mostly powers of two, from all lying at the same places of the cache.
const panelGap = 16

// packedPanel returns the panel of A that begins i rows behind from, packed: element (r,q) of its h rows lies at q·h+r. It
// must be asked for one panel after another. Where the elements of a column lie side by side, memory is read in its order:
// many panels at a time.
func (g *gemm) packedPanel(w *gemmWork, i, from, to, p, k int) []float32 {
	apart := simd.Gemm().PanelRows*k + panelGap
	if g.acs == 1 {
		w.a = memory.Grow(w.a, apart)
		h := min(simd.Gemm().PanelRows, to-from-i)
		simd.Gemm().PackT(w.a, g.a[(from+i)*g.ars+p:], g.ars, h, k, h)
		return w.a
	}
	n := i / simd.Gemm().PanelRows % mc
	if n == 0 {
		w.a = memory.Grow(w.a, mc*apart)
		rows := min(mc*simd.Gemm().PanelRows, to-from-i)
		regroup(w.a, g.a[from+i+p*g.acs:], g.acs, k, rows, simd.Gemm().PanelRows, apart, rows%simd.Gemm().PanelRows)
	}
	return w.a[n*apart:]
}

// regroup packs rows [k,n] into panels of w columns, that far apart; what is left over lies last, in rows of that length.
func regroup(dst, src []float32, ld, k, n, w, apart, last int) {
	panels := n / w
	if panels > 0 {
		simd.Gemm().PackN(w, k, panels, src, ld, dst, apart)
	}
	if whole := panels * w; whole < n {
		copyRows(dst[panels*apart:], last, src[whole:], ld, k, n-whole)
	}
}

// packBlock packs [p,p1) of columns [j,j1) of op(B), times alpha, into the panels of cut: element (q,c) of a panel of w
// columns lies at q·w+c. What is left over has rows of gemmKernels().nr.
func (g *gemm) packBlock(w *gemmWork, j, j1, p, p1 int) {
	k, n := p1-p, j1-j
	w.b = memory.Grow(w.b, (n+simd.Gemm().NR)*k)
	wide, narrow := cut(n, simd.Gemm().PanelColumns, simd.Gemm().Lane)
	g.packB(w.b, p, k, j, wide*simd.Gemm().PanelColumns, simd.Gemm().PanelColumns)
	j += wide * simd.Gemm().PanelColumns
	g.packB(w.b[wide*simd.Gemm().PanelColumns*k:], p, k, j, narrow*(simd.Gemm().PanelColumns-simd.Gemm().Lane), simd.Gemm().PanelColumns-simd.Gemm().Lane)
	j += narrow * (simd.Gemm().PanelColumns - simd.Gemm().Lane)
	g.packB(w.b[(n-j1+j)*k:], p, k, j, j1-j, simd.Gemm().NR)
	if g.alpha != 1 {
		simd.Scale(w.b, g.alpha)
	}
}

// packB packs rows [p,p+k) of columns [j,j+n) of op(B) into panels of w columns, the last of which may be incomplete.
func (g *gemm) packB(dst []float32, p, k, j, n, w int) {
	if g.half == simd.F32 && !g.tb {
		if n > 0 {
			regroup(dst, g.b[p*g.ldb+j:], g.ldb, k, n, w, w*k, w)
		}
		return
	}
	for c := 0; c < n; c += w {
		if panel := dst[c*k:]; g.half == simd.F32 {
			simd.Gemm().PackT(panel, g.b[(j+c)*g.ldb+p:], g.ldb, min(w, n-c), k, w)
		} else {
			g.packHalf(panel, p, k, j+c, min(w, n-c), w)
		}
	}
}

// copyRows copies [rows,w] between two strides.
func copyRows(dst []float32, ldd int, src []float32, lds, rows, w int) {
	for r := range rows {
		copy(dst[r*ldd:][:w], src[r*lds:][:w])
	}
}

func packScaled(dst, src []float32, stride int, s float32) {
	for p := range dst {
		dst[p] = src[p*stride] * s
	}
}

// packMatrix packs op(B) [k,n] into panels of nr columns, in dst if it is large enough.
func packMatrix(dst, b []float32, ldb int, tb bool, k, n int) []float32 {
	dst = memory.Grow(dst, pool.RoundUp(n, simd.Gemm().NR)*k)
	if !tb {
		regroup(dst, b, ldb, k, n, simd.Gemm().NR, simd.Gemm().NR*k, simd.Gemm().NR)
		return dst
	}
	for j := 0; j < n; j += simd.Gemm().NR {
		simd.Gemm().PackT(dst[j*k:], b[j*ldb:], ldb, min(simd.Gemm().NR, n-j), k, simd.Gemm().NR)
	}
	return dst
}
