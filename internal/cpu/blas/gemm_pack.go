package blas

import (
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// panelGap keeps the panels of A, whose sizes are mostly powers of two, from competing for the same lines of the cache.
const panelGap = 16

// packedPanel returns the panel of A that begins i rows behind from, packed: element (r,q) of its h rows is at q·h+r. It must be
// called for one panel after another: if the elements of a column are adjacent, it packs many panels at a time, in memory order.
func (g *gemm) packedPanel(w *gemmWork, i, from, to, p, k int) []float32 {
	kern := simd.Gemm()
	stride := kern.PanelRows*k + panelGap
	if g.acs == 1 {
		w.a = memory.Grow(w.a, stride)
		h := min(kern.PanelRows, to-from-i)
		kern.PackT(w.a, g.a[(from+i)*g.ars+p:], g.ars, h, k, h)
		return w.a
	}
	n := i / kern.PanelRows % mc
	if n == 0 {
		w.a = memory.Grow(w.a, mc*stride)
		rows := min(mc*kern.PanelRows, to-from-i)
		packN(w.a, g.a[from+i+p*g.acs:], g.acs, k, rows, kern.PanelRows, stride, rows%kern.PanelRows)
	}
	return w.a[n*stride:]
}

// packN packs rows [k,n] into panels of w columns at a stride. What is left over comes last, in rows of the length last.
func packN(dst, src []float32, ld, k, n, w, stride, last int) {
	panels := n / w
	if panels > 0 {
		simd.Gemm().PackN(w, k, panels, src, ld, dst, stride)
	}
	if whole := panels * w; whole < n {
		CopyRows(dst[panels*stride:], last, src[whole:], ld, k, n-whole)
	}
}

// packBlock packs [p,p1) of columns [j,j1) of op(B), times alpha, into the panels of cut: element (q,c) of a panel of w
// columns is at q·w+c. What is left over has rows of NR.
func (g *gemm) packBlock(w *gemmWork, j, j1, p, p1 int) {
	kern := simd.Gemm()
	k, n := p1-p, j1-j
	w.b = memory.Grow(w.b, (n+kern.NR)*k)
	wide, narrow := cut(n, kern.PanelColumns, kern.Lane)
	g.packB(w.b, p, k, j, wide*kern.PanelColumns, kern.PanelColumns)
	j += wide * kern.PanelColumns
	g.packB(w.b[wide*kern.PanelColumns*k:], p, k, j, narrow*(kern.PanelColumns-kern.Lane), kern.PanelColumns-kern.Lane)
	j += narrow * (kern.PanelColumns - kern.Lane)
	g.packB(w.b[(n-j1+j)*k:], p, k, j, j1-j, kern.NR)
	if g.alpha != 1 {
		simd.Scale(w.b, g.alpha)
	}
}

// packB packs rows [p,p+k) of columns [j,j+n) of op(B) into panels of w columns, the last of which may be incomplete.
func (g *gemm) packB(dst []float32, p, k, j, n, w int) {
	if g.half == simd.F32 && !g.tb {
		if n > 0 {
			packN(dst, g.b[p*g.ldb+j:], g.ldb, k, n, w, w*k, w)
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

// CopyRows copies [rows,w] from rows lds apart to rows ldd apart.
func CopyRows(dst []float32, ldd int, src []float32, lds, rows, w int) {
	for r := range rows {
		copy(dst[r*ldd:][:w], src[r*lds:][:w])
	}
}

// packScaled computes dst = s·src for elements of src at a stride.
func packScaled(dst, src []float32, stride int, s float32) {
	for p := range dst {
		dst[p] = src[p*stride] * s
	}
}

// Pack packs op(B) [k,n] for MultiplyPacked, into dst if it is large enough, and returns it: panels of NR columns. B is stored [k,n], or
// [n,k] if tb, with rows ldb apart.
func Pack(dst, b []float32, ldb int, tb bool, k, n int) []float32 {
	kern := simd.Gemm()
	dst = memory.Grow(dst, pool.RoundUp(n, kern.NR)*k)
	if !tb {
		packN(dst, b, ldb, k, n, kern.NR, kern.NR*k, kern.NR)
		return dst
	}
	for j := 0; j < n; j += kern.NR {
		kern.PackT(dst[j*k:], b[j*ldb:], ldb, min(kern.NR, n-j), k, kern.NR)
	}
	return dst
}
