package kernels

// inPlace reports whether A is read as it lies: the elements of a row side by side, as a tile takes them.
func (g *gemm) inPlace() bool { return g.acs == 1 && g.alpha == 1 }

// packPanelA packs the panel's rows of A, times alpha, into panels of mr rows, unless they are read in place: element
// (i,p) of a panel of h rows lies at p·h+i.
func (g *gemm) packPanelA() {
	if g.inPlace() {
		return
	}
	rows, k := g.i1-g.i0, g.p1-g.p0
	g.packedA = grown(g.packedA, rows*k)
	if g.acs == 1 {
		run(rows, 4*kern.mr, (*packingRowsA)(g))
	} else {
		run(k, grainFor(rows), (*packingA)(g))
	}
	if g.alpha != 1 {
		Scale(g.packedA, g.alpha)
	}
}

// packingRowsA packs an A of which the elements of a row lie side by side. Its items are rows.
type packingRowsA gemm

func (g *packingRowsA) block(lo, hi int) {
	k := g.p1 - g.p0
	for i := lo; i < hi; i += kern.mr {
		h := min(kern.mr, hi-i)
		kern.packT(g.packedA[i*k:][:h*k], g.a[(g.i0+i)*g.ars+g.p0:], g.ars, h, k, h)
	}
}

// packingA packs an A of which the elements of a column lie side by side. Its items are columns, so that memory is read in
// its order.
type packingA gemm

func (g *packingA) block(lo, hi int) {
	k, rows := g.p1-g.p0, g.i1-g.i0
	whole := rows / kern.mr * kern.mr
	for p := lo; p < hi; p++ {
		column := g.a[g.i0+(g.p0+p)*g.acs:][:rows]
		scatter(g.packedA[p*kern.mr:], kern.mr*k, column[:whole], kern.mr)
		if whole < rows {
			copy(g.packedA[whole*k+p*(rows-whole):], column[whole:])
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

// packPanelB packs the panel's columns of B into panels of nr columns: element (p,j) lies at p·nr+j.
func (g *gemm) packPanelB() {
	cols, k := g.j1-g.j0, g.p1-g.p0
	g.packedB = grown(g.packedB, roundUp(cols, kern.nr)*k)
	if g.tb || g.half != Full {
		run(cols, 4*kern.nr, (*packingB)(g))
	} else {
		run(k, grainFor(cols), (*packingRowsB)(g))
	}
}

// packingRowsB packs a B of which the elements of a row lie side by side. Its items are rows.
type packingRowsB gemm

func (g *packingRowsB) block(lo, hi int) {
	k, cols := g.p1-g.p0, g.j1-g.j0
	whole := cols / kern.nr * kern.nr
	for p := lo; p < hi; p++ {
		row := g.b[(g.p0+p)*g.ldb+g.j0:][:cols]
		scatter(g.packedB[p*kern.nr:], kern.nr*k, row[:whole], kern.nr)
		if whole < cols {
			copy(g.packedB[whole*k+p*kern.nr:], row[whole:])
		}
	}
}

// packingB packs any other B. Its items are columns.
type packingB gemm

func (t *packingB) block(lo, hi int) {
	g := (*gemm)(t)
	k, nr := g.p1-g.p0, kern.nr
	for j := lo; j < hi; j += nr {
		g.packB(g.packedB[j*k:], g.p0, k, g.j0+j, min(nr, hi-j))
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
