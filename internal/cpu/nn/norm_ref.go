package nn

import "math"

// RMSNormRef is the definition of RMSNorm, in float64.
func RMSNormRef(y, inv, x, w []float32, rows, dim int, eps float32) {
	for r := range rows {
		sum := 0.0
		for _, v := range x[r*dim:][:dim] {
			sum += float64(v) * float64(v)
		}
		s := 1 / math.Sqrt(sum/float64(dim)+float64(eps))
		if inv != nil {
			inv[r] = float32(s)
		}
		for i := range dim {
			y[r*dim+i] = float32(float64(x[r*dim+i]) * s * at(w, r*dim+i, 1))
		}
	}
}

// at returns s[i mod len(s)] as a float64, or missing if s is nil.
func at(s []float32, i int, missing float64) float64 {
	if s == nil {
		return missing
	}
	return float64(s[i%len(s)])
}

// RMSNormBackwardRef is the definition of RMSNormBackward, in float64.
func RMSNormBackwardRef(dx, dw, dy, x, w, inv []float32, rows, dim int) {
	for r := range rows {
		s, mean := float64(inv[r]), 0.0
		for i := range dim {
			k := r*dim + i
			mean += float64(dy[k]) * at(w, r*dim+i, 1) * float64(x[k]) / float64(dim)
			if dw != nil {
				dw[k%len(dw)] += float32(float64(dy[k]) * float64(x[k]) * s)
			}
		}
		for i := range dim {
			k := r*dim + i
			dx[k] = float32(s * (float64(dy[k])*at(w, r*dim+i, 1) - float64(x[k])*s*s*mean))
		}
	}
}

// LayerNormRef is the definition of LayerNorm, in float64.
func LayerNormRef(y, mean, inv, x, w, b []float32, rows, dim int, eps float32) {
	for r := range rows {
		xr, mu, variance := x[r*dim:][:dim], 0.0, 0.0
		for _, v := range xr {
			mu += float64(v) / float64(dim)
		}
		for _, v := range xr {
			variance += (float64(v) - mu) * (float64(v) - mu) / float64(dim)
		}
		s := 1 / math.Sqrt(variance+float64(eps))
		if mean != nil {
			mean[r] = float32(mu)
		}
		if inv != nil {
			inv[r] = float32(s)
		}
		for i, v := range xr {
			y[r*dim+i] = float32((float64(v)-mu)*s*at(w, r*dim+i, 1) + at(b, r*dim+i, 0))
		}
	}
}

// LayerNormBackwardRef is the definition of LayerNormBackward, in float64.
func LayerNormBackwardRef(dx, dw, db, dy, x, w, mean, inv []float32, rows, dim int) {
	for r := range rows {
		mu, s := float64(mean[r]), float64(inv[r])
		meanG, meanGN := 0.0, 0.0
		for i := range dim {
			k := r*dim + i
			d, n := float64(dy[k]), (float64(x[k])-mu)*s
			meanG += d * at(w, r*dim+i, 1) / float64(dim)
			meanGN += d * at(w, r*dim+i, 1) * n / float64(dim)
			if dw != nil {
				dw[k%len(dw)] += float32(d * n)
			}
			if db != nil {
				db[k%len(db)] += float32(d)
			}
		}
		for i := range dim {
			k := r*dim + i
			n := (float64(x[k]) - mu) * s
			dx[k] = float32(s * (float64(dy[k])*at(w, r*dim+i, 1) - meanG - n*meanGN))
		}
	}
}
