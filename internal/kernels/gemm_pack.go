package kernels

// packPanels packs rows [i,i+rows) of an A of which the elements of a column lie side by side, [p,p+k) of each, into panels
// of mr rows: element (r,q) of a panel of h rows lies at q·h+r. Memory is read in its order.
func (g *gemm) packPanels(w *gemmWork, i, rows, p, k int) {
	w.a = grown(w.a, mc*kern.mr*k)
	regroup(w.a, g.a[i+p*g.acs:], g.acs, k, rows, kern.mr, rows%kern.mr)
}

// regroup packs rows [k,n] into panels of w columns; those of the last one, if incomplete, lie last apart.
func regroup(dst, src []float32, ld, k, n, w, last int) {
	if panels := n / w; panels > 0 {
		kern.regroup(w, k, panels, src, ld, dst, w*k)
	}
	if whole := n - n%w; whole < n {
		copyRows(dst[whole*k:], last, src[whole:], ld, k, n-whole)
	}
}

// packBlock packs [p,p1) of columns [j,j1) of op(B), times alpha, into panels of nr columns: element (q,c) of a panel lies
// at q·nr+c.
func (g *gemm) packBlock(w *gemmWork, j, j1, p, p1 int) {
	k, nr := p1-p, kern.nr
	w.b = grown(w.b, roundUp(j1-j, nr)*k)
	if g.tb || g.half != Full {
		for c := j; c < j1; c += nr {
			g.packB(w.b[(c-j)*k:], p, k, c, min(nr, j1-c))
		}
	} else {
		regroup(w.b, g.b[p*g.ldb+j:], g.ldb, k, j1-j, nr, nr)
	}
	if g.alpha != 1 {
		kern.scale(w.b, g.alpha)
	}
}

func (g *gemm) packB(dst []float32, p, k, j, w int) {
	if g.half != Full {
		g.packHalf(dst, p, k, j, w)
		return
	}
	packB(dst, g.b, g.ldb, g.tb, p, k, j, w, kern.nr)
}

// packB packs rows [p,p+k) of columns [j,j+w) of op(B) into dst[k,nr].
func packB(dst, b []float32, ldb int, tb bool, p, k, j, w, nr int) {
	if tb {
		kern.packT(dst, b[j*ldb+p:], ldb, w, k, nr)
		return
	}
	copyRows(dst, nr, b[p*ldb+j:], ldb, k, w)
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
	dst = grown(dst, roundUp(n, kern.nr)*k)
	if !tb {
		regroup(dst, b, ldb, k, n, kern.nr, kern.nr)
		return dst
	}
	for j := 0; j < n; j += kern.nr {
		packB(dst[j*k:], b, ldb, true, 0, k, j, min(kern.nr, n-j), kern.nr)
	}
	return dst
}
