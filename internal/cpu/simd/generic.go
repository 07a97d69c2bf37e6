package simd

// goPath has the inner loops in Go, for machines without assembly. Sums run in several lanes so that additions overlap;
// the tile of 2×4 is the largest whose sums the compiler keeps in registers.
var goPath = path{
	name: "go",
	gemm: GemmKernels{
		MR: 2, NR: 4, PanelRows: 2, PanelColumns: 4, Lane: 4,
		Micro: microGo, PackN: packNGo, PackT: packTGo,
		Dots: dotsGo,
	},
	dot: dotGo, sum: sumGo, max: maxRef,
	add: addGo, mul: mulGo, axpy: axpyGo, mulAdd: mulAddGo, scale: scaleRef, affine: affineGo, rotate: rotateGo,
	expSum: expSumGo, sigmoid: sigmoidGo, slope: slopeGo, cdf: cdfGo, adamw: adamwGo,
	fromBF16: fromBF16Go, fromF16: fromF16Go, toBF16: toBF16Go, toF16: toF16Go,
}

func microGo(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	if m == 2 && n == 4 {
		micro2x4(k, a, ars, acs, b, bs, c, ldc, acc)
		return
	}
	for i := range m {
		for j := range n {
			sum := dotStrided(k, a[i*ars:], acs, b[j:], bs)
			if acc {
				sum += c[i*ldc+j]
			}
			c[i*ldc+j] = sum
		}
	}
}

func micro2x4(k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	var c00, c01, c02, c03, c10, c11, c12, c13 float32
	ia, ib := 0, 0
	for range k {
		row := (*[4]float32)(b[ib:])
		b0, b1, b2, b3 := row[0], row[1], row[2], row[3]
		x := a[ia]
		c00 += x * b0
		c01 += x * b1
		c02 += x * b2
		c03 += x * b3
		x = a[ia+ars]
		c10 += x * b0
		c11 += x * b1
		c12 += x * b2
		c13 += x * b3
		ia += acs
		ib += bs
	}
	r0, r1 := (*[4]float32)(c), (*[4]float32)(c[ldc:])
	if acc {
		r0[0], r0[1], r0[2], r0[3] = r0[0]+c00, r0[1]+c01, r0[2]+c02, r0[3]+c03
		r1[0], r1[1], r1[2], r1[3] = r1[0]+c10, r1[1]+c11, r1[2]+c12, r1[3]+c13
		return
	}
	r0[0], r0[1], r0[2], r0[3] = c00, c01, c02, c03
	r1[0], r1[1], r1[2], r1[3] = c10, c11, c12, c13
}

func dotStrided(k int, x []float32, sx int, y []float32, sy int) (sum float32) {
	ix, iy := 0, 0
	for range k {
		sum += x[ix] * y[iy]
		ix += sx
		iy += sy
	}
	return sum
}

func packNGo(w, rows, panels int, src []float32, ld int, dst []float32, stride int) {
	for r := range rows {
		for t := range panels {
			copy(dst[t*stride+r*w:][:w], src[r*ld+t*w:])
		}
	}
}

// dotsGo takes two rows of A and two of B at a time.
func dotsGo(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	for i := 0; i < m; i += 2 {
		h := min(2, m-i)
		for j := 0; j < n; j += 2 {
			var out [4]float32
			dots2x2(a[i*lda:][:k], a[(i+h-1)*lda:][:k], b[j*ldb:][:k], b[(j+1)*ldb:][:k], &out)
			for t, v := range out[:2*h] {
				store(&c[(i+t/2)*ldc+j+t%2], alpha*v, acc)
			}
		}
	}
}

func dots2x2(a0, a1, b0, b1 []float32, out *[4]float32) {
	a1, b0, b1 = a1[:len(a0)], b0[:len(a0)], b1[:len(a0)]
	var c00, c01, c10, c11, d00, d01, d10, d11 float32
	p := 0
	for ; p+1 < len(a0); p += 2 {
		x0, x1, y0, y1 := a0[p], a1[p], b0[p], b1[p]
		c00 += x0 * y0
		c01 += x0 * y1
		c10 += x1 * y0
		c11 += x1 * y1
		x0, x1, y0, y1 = a0[p+1], a1[p+1], b0[p+1], b1[p+1]
		d00 += x0 * y0
		d01 += x0 * y1
		d10 += x1 * y0
		d11 += x1 * y1
	}
	if p < len(a0) {
		c00 += a0[p] * b0[p]
		c01 += a0[p] * b1[p]
		c10 += a1[p] * b0[p]
		c11 += a1[p] * b1[p]
	}
	*out = [4]float32{c00 + d00, c01 + d01, c10 + d10, c11 + d11}
}

// packTGo walks the source along its rows, four at a time.
func packTGo(dst, src []float32, ld, n, k, nr int) {
	j := 0
	for ; j+4 <= n; j += 4 {
		r0, r1, r2, r3 := src[j*ld:][:k], src[(j+1)*ld:][:k], src[(j+2)*ld:][:k], src[(j+3)*ld:][:k]
		for p, v := range r0 {
			d := dst[p*nr+j:][:4]
			d[0], d[1], d[2], d[3] = v, r1[p], r2[p], r3[p]
		}
	}
	for ; j < n; j++ {
		for p, v := range src[j*ld:][:k] {
			dst[p*nr+j] = v
		}
	}
}
