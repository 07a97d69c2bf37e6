package simd

import "math"

// refPath has the definition of every inner loop: plain, with sums in float64.
var refPath = path{
	name: "ref",
	gemm: GemmKernels{
		MR: 4, NR: 4, PanelRows: 4, PanelColumns: 4, Lane: 4,
		Micro: microRef, PackN: packNGo, PackT: packTRef,
		Dots: dotsRef,
	},
	dot: dotRef, sum: sumRef, max: maxRef,
	add: addRef, mul: mulRef, axpy: axpyRef, mulAdd: mulAddRef, scale: scaleRef, affine: affineRef, rotate: rotateRef,
	expSum: expSumRef, sigmoid: sigmoidRef, slope: slopeRef, cdf: cdfRef, adamw: adamwRef,
	fromBF16: fromBF16Ref, fromF16: fromF16Ref, toBF16: toBF16Ref, toF16: toF16Ref,
}

func microRef(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int, acc bool) {
	for i := range m {
		for j := range n {
			sum := 0.0
			for p := range k {
				sum += float64(a[i*ars+p*acs]) * float64(b[p*bs+j])
			}
			if acc {
				sum += float64(c[i*ldc+j])
			}
			c[i*ldc+j] = float32(sum)
		}
	}
}

func dotsRef(m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	for i := range m {
		for j := range n {
			store(&c[i*ldc+j], alpha*dotRef(a[i*lda:][:k], b[j*ldb:][:k]), acc)
		}
	}
}

// store sets *c = v, or *c += v if acc.
func store(c *float32, v float32, acc bool) {
	if acc {
		v += *c
	}
	*c = v
}

func packTRef(dst, src []float32, ld, n, k, nr int) {
	for p := range k {
		for j := range n {
			dst[p*nr+j] = src[j*ld+p]
		}
	}
}

func dotRef(x, y []float32) float32 {
	sum := 0.0
	for i, v := range x {
		sum += float64(v) * float64(y[i])
	}
	return float32(sum)
}

func sumRef(x []float32) float32 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v)
	}
	return float32(sum)
}

func addRef(z, x, y []float32) {
	for i, v := range x {
		z[i] = v + y[i]
	}
}

func mulRef(z, x, y []float32) {
	for i, v := range x {
		z[i] = v * y[i]
	}
}

func mulAddRef(s float32, x, y, z []float32) {
	for i, v := range x {
		z[i] += s * v * y[i]
	}
}

func affineRef(y, x []float32, s, t float32) {
	for i, v := range x {
		y[i] = v*s + t
	}
}

func rotateRef(y0, y1, x0, x1, cos, sin []float32, s float32) {
	for i, c := range cos {
		a, b := x0[i], x1[i]
		y0[i], y1[i] = a*c-s*b*sin[i], b*c+s*a*sin[i]
	}
}

func axpyRef(s float32, x, y []float32) {
	for i, v := range x {
		y[i] += s * v
	}
}

func scaleRef(x []float32, s float32) {
	for i := range x {
		x[i] *= s
	}
}

func maxRef(x []float32) float32 {
	top := x[0]
	for _, v := range x[1:] {
		top = max(top, v)
	}
	return top
}

func expSumRef(y, x []float32, shift float32) float32 {
	sum := 0.0
	for i, v := range x {
		e := math.Exp(float64(v - shift))
		y[i] = float32(e)
		sum += e
	}
	return float32(sum)
}

func sigmoidRef(y, x []float32, c1, c3 float32) {
	for i, v := range x {
		z := float64(v) * (float64(c1) + float64(c3)*float64(v)*float64(v))
		y[i] = float32(1 / (1 + math.Exp(-z)))
	}
}

func slopeRef(y, x []float32, c1, c3 float32) {
	sigmoidRef(y, x, c1, c3)
	for i, v := range x {
		s := float64(y[i])
		y[i] = float32(s + s*(1-s)*float64(v)*(float64(c1)+3*float64(c3)*float64(v)*float64(v)))
	}
}

func cdfRef(y, x []float32) {
	for i, v := range x {
		y[i] = float32(0.5 * math.Erfc(-float64(v)/math.Sqrt2))
	}
}

// adamwRef is the definition of AdamW, in float64.
func adamwRef(p, g, m, v []float32, s *AdamWConstants) {
	for i := range p {
		d := float64(g[i]) * float64(s.GScale)
		m1 := float64(m[i]) + float64(s.W1)*(d-float64(m[i]))
		v1 := float64(s.Beta2)*float64(v[i]) + float64(s.W2)*d*d
		x := float64(p[i]) * float64(s.Keep)
		x -= float64(s.LR) * m1 / (math.Sqrt(v1)*float64(s.RSqrt) + float64(s.Eps))
		p[i], m[i], v[i] = float32(x), float32(m1), float32(v1)
	}
}
