package kernels

import "math"

// RMSNorm is y = x·inv·w with inv[row] = 1/√(mean(x²)+eps) (Zhang & Sennrich, arXiv 1910.07467). x and y are
// [rows, dim] and may alias, w is [dim] or nil for ones, inv is [rows] or nil if not wanted.
func RMSNorm(y, inv, x, w []float32, rows, dim int, eps float32) {
	if rows*dim <= blockElements {
		rmsNorm(y, inv, x, w, 0, rows, dim, eps)
		return
	}
	For(rows, grainFor(dim), func(lo, hi int) { rmsNorm(y, inv, x, w, lo, hi, dim, eps) })
}

func rmsNorm(y, inv, x, w []float32, lo, hi, dim int, eps float32) {
	for r := lo; r < hi; r++ {
		xr, yr := x[r*dim:][:dim], y[r*dim:][:dim]
		s := rsqrt(kern.dot(xr, xr)/float32(dim) + eps)
		if inv != nil {
			inv[r] = s
		}
		scaleShift(yr, xr, s, 0, w, nil)
	}
}

func rsqrt(x float32) float32 { return float32(1 / math.Sqrt(float64(x))) }

// scaleShift is y = (x·s + t)·w + b; nil w and b are ones and zeros.
func scaleShift(y, x []float32, s, t float32, w, b []float32) {
	x = x[:len(y)]
	switch {
	case w == nil:
		for i := range y {
			y[i] = x[i]*s + t
		}
	case b == nil:
		w = w[:len(y)]
		for i := range y {
			y[i] = (x[i]*s + t) * w[i]
		}
	default:
		w, b = w[:len(y)], b[:len(y)]
		for i := range y {
			y[i] = (x[i]*s+t)*w[i] + b[i]
		}
		return
	}
	if b != nil {
		kern.axpy(1, b[:len(y)], y)
	}
}

// RMSNormBackward writes dx and adds to dw (nil if not wanted), given dy and what RMSNorm saw and returned.
// With g = dy·w: dx = inv·(g - x·inv²·mean(g·x)), dw = Σ_rows dy·x·inv. dx may alias dy only if dw is nil.
func RMSNormBackward(dx, dw, dy, x, w, inv []float32, rows, dim int) {
	if dw != nil {
		normWeightBackward(dw, nil, dy, x, nil, inv, rows, dim)
	}
	For(rows, grainFor(dim), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			dxr, dyr, xr := dx[r*dim:][:dim], dy[r*dim:][:dim], x[r*dim:][:dim]
			s := inv[r]
			scaleShift(dxr, dyr, s, 0, w, nil)
			kern.axpy(-s*s*kern.dot(dxr, xr)/float32(dim), xr, dxr)
		}
	})
}

// normWeightBackward is dw += Σ_rows dy·(x-mean)·inv and db += Σ_rows dy; mean may be nil for 0, dw or db for unwanted.
func normWeightBackward(dw, db, dy, x, mean, inv []float32, rows, dim int) {
	For(dim, stripe, func(lo, hi int) {
		for r := range rows {
			dyr, xr := dy[r*dim+lo:][:hi-lo], x[r*dim+lo:][:hi-lo]
			if dw != nil {
				s, t := inv[r], float32(0)
				if mean != nil {
					t = -mean[r] * s
				}
				dwr := dw[lo:hi]
				for i, d := range dyr {
					dwr[i] += d * (xr[i]*s + t)
				}
			}
			if db != nil {
				kern.axpy(1, dyr, db[lo:hi])
			}
		}
	})
}

// LayerNorm is y = (x-mean)·inv·w + b with the mean of each row and inv = 1/√(variance+eps) (Ba et al.,
// arXiv 1607.06450). x and y are [rows, dim] and may alias, w and b are [dim] or nil for ones and zeros, mean and inv
// are [rows] or nil if not wanted.
func LayerNorm(y, mean, inv, x, w, b []float32, rows, dim int, eps float32) {
	if rows*dim <= blockElements {
		layerNorm(y, mean, inv, x, w, b, 0, rows, dim, eps)
		return
	}
	For(rows, grainFor(dim), func(lo, hi int) { layerNorm(y, mean, inv, x, w, b, lo, hi, dim, eps) })
}

func layerNorm(y, mean, inv, x, w, b []float32, lo, hi, dim int, eps float32) {
	for r := lo; r < hi; r++ {
		xr, yr := x[r*dim:][:dim], y[r*dim:][:dim]
		mu, variance := moments(xr)
		s := rsqrt(variance + eps)
		if mean != nil {
			mean[r] = mu
		}
		if inv != nil {
			inv[r] = s
		}
		scaleShift(yr, xr, s, -mu*s, w, b)
	}
}

// moments returns the mean and the variance, in two passes: E[x²]-E[x]² cancels where the mean is large.
func moments(x []float32) (mean, variance float32) {
	var s0, s1 float64
	for i := 0; i+1 < len(x); i += 2 {
		s0 += float64(x[i])
		s1 += float64(x[i+1])
	}
	if len(x)%2 == 1 {
		s0 += float64(x[len(x)-1])
	}
	mu := (s0 + s1) / float64(len(x))
	var q0, q1 float64
	for i := 0; i+1 < len(x); i += 2 {
		d0, d1 := float64(x[i])-mu, float64(x[i+1])-mu
		q0 += d0 * d0
		q1 += d1 * d1
	}
	if len(x)%2 == 1 {
		d := float64(x[len(x)-1]) - mu
		q0 += d * d
	}
	return float32(mu), float32((q0 + q1) / float64(len(x)))
}

// LayerNormBackward writes dx and adds to dw and db (nil if not wanted), given dy and what LayerNorm saw and returned.
// With g = dy·w and n = (x-mean)·inv: dx = inv·(g - mean(g) - n·mean(g·n)), dw = Σ_rows dy·n, db = Σ_rows dy.
// dx may alias dy only if dw and db are nil.
func LayerNormBackward(dx, dw, db, dy, x, w, mean, inv []float32, rows, dim int) {
	if dw != nil || db != nil {
		normWeightBackward(dw, db, dy, x, mean, inv, rows, dim)
	}
	For(rows, grainFor(dim), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			layerNormRowBackward(dx[r*dim:][:dim], dy[r*dim:][:dim], x[r*dim:][:dim], w, mean[r], inv[r])
		}
	})
}

func layerNormRowBackward(dx, dy, x, w []float32, mean, inv float32) {
	scaleShift(dx, dy, inv, 0, w, nil)
	var sum, dot float32
	for i, g := range dx {
		sum += g
		dot += g * (x[i] - mean)
	}
	sum /= float32(len(dx))
	dot *= inv * inv / float32(len(dx))
	for i, v := range x {
		dx[i] -= sum + dot*(v-mean)
	}
}
