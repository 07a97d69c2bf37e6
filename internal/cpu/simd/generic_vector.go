package simd

import "math"

func dotGo(x, y []float32) float32 {
	y = y[:len(x)]
	var s0, s1, s2, s3 float32
	for len(x) >= 4 && len(y) >= 4 {
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
		x, y = x[4:], y[4:]
	}
	for i, v := range x {
		s0 += v * y[i]
	}
	return (s0 + s1) + (s2 + s3)
}

func sumGo(x []float32) float32 {
	var s0, s1, s2, s3 float32
	for len(x) >= 4 {
		s0 += x[0]
		s1 += x[1]
		s2 += x[2]
		s3 += x[3]
		x = x[4:]
	}
	for _, v := range x {
		s0 += v
	}
	return (s0 + s1) + (s2 + s3)
}

func addGo(z, x, y []float32) {
	z, y = z[:len(x)], y[:len(x)]
	for i, v := range x {
		z[i] = v + y[i]
	}
}

func mulGo(z, x, y []float32) {
	z, y = z[:len(x)], y[:len(x)]
	for i, v := range x {
		z[i] = v * y[i]
	}
}

func mulAddGo(s float32, x, y, z []float32) {
	y, z = y[:len(x)], z[:len(x)]
	for i, v := range x {
		z[i] += s * v * y[i]
	}
}

func affineGo(y, x []float32, s, t float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = v*s + t
	}
}

func rotateGo(y0, y1, x0, x1, cos, sin []float32, s float32) {
	n := len(cos)
	y0, y1, x0, x1, sin = y0[:n], y1[:n], x0[:n], x1[:n], sin[:n]
	for i, c := range cos {
		t, a, b := sin[i]*s, x0[i], x1[i]
		y0[i] = a*c - b*t
		y1[i] = b*c + a*t
	}
}

func axpyGo(s float32, x, y []float32) {
	y = y[:len(x)]
	for len(x) >= 4 && len(y) >= 4 {
		y[0] += s * x[0]
		y[1] += s * x[1]
		y[2] += s * x[2]
		y[3] += s * x[3]
		x, y = x[4:], y[4:]
	}
	for i, v := range x {
		y[i] += s * v
	}
}

func expSumGo(y, x []float32, shift float32) float32 {
	y = y[:len(x)]
	var sum float32
	for i, v := range x {
		e := Exp(v - shift)
		y[i] = e
		sum += e
	}
	return sum
}

func sigmoidGo(y, x []float32, c1, c3 float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = 1 / (1 + Exp(-v*(c1+c3*v*v)))
	}
}

func slopeGo(y, x []float32, c1, c3 float32) {
	sigmoidGo(y, x, c1, c3)
	for i, v := range x {
		s := y[i]
		y[i] = s + s*(1-s)*v*(c1+3*c3*v*v)
	}
}

func cdfGo(y, x []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = cdf32(v)
	}
}

func adamwGo(p, g, m, v []float32, s *AdamWConstants) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	for i, x := range p {
		d := g[i] * s.GScale
		m1 := m[i] + s.W1*(d-m[i])
		v1 := s.Beta2*v[i] + s.W2*d*d
		m[i], v[i] = m1, v1
		p[i] = x*s.Keep - s.LR*m1/(float32(math.Sqrt(float64(v1)))*s.RSqrt+s.Eps)
	}
}
