package kernels

// packPanels packs rows [i,i+rows) of an A of which the elements of a column lie side by side, [p,p+k) of each, into panels
// of mr rows: element (r,q) of a panel of h rows lies at q·h+r. Memory is read in its order.
func (g *gemm) packPanels(w *gemmWork, i, rows, p, k int) {
	w.a = grown(w.a, mc*kern.mr*k)
	whole := rows / kern.mr * kern.mr
	for q := range k {
		column := g.a[i+(p+q)*g.acs:][:rows]
		scatter(w.a[q*kern.mr:], kern.mr*k, column[:whole], kern.mr)
		if whole < rows {
			copy(w.a[whole*k+q*(rows-whole):], column[whole:])
		}
	}
}

// scatter copies each width elements of x to their place in a panel, panels being so far apart.
func scatter(dst []float32, apart int, x []float32, width int) {
	for i := 0; i*width < len(x); i++ {
		from, to := x[i*width:], dst[i*apart:]
		if width == 14 { // AVX-512's rows: too few to be worth a call
			*(*[14]float32)(to) = *(*[14]float32)(from)
		} else {
			copy(to, from[:width])
		}
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
		g.packRows(w.b, j, j1, p, k)
	}
	if g.alpha != 1 {
		kern.scale(w.b, g.alpha)
	}
}

// packRows is packBlock of a B of which the elements of a row lie side by side. Memory is read in its order.
func (g *gemm) packRows(dst []float32, j, j1, p, k int) {
	whole := (j1 - j) / kern.nr * kern.nr
	for q := range k {
		row := g.b[(p+q)*g.ldb+j:][:j1-j]
		scatter(dst[q*kern.nr:], kern.nr*k, row[:whole], kern.nr)
		if whole < len(row) {
			copy(dst[whole*k+q*kern.nr:], row[whole:])
		}
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
	for j := 0; j < n; j += kern.nr {
		packB(dst[j*k:], b, ldb, tb, 0, k, j, min(kern.nr, n-j), kern.nr)
	}
	return dst
}
