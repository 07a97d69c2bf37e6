package simd

// The functions on vectors take operands of one length. Outputs may alias inputs unless stated otherwise.

// Dot returns Σ_i x[i]·y[i].
func Dot(x, y []float32) float32 { return kern.dot(x, y) }

// Sum returns Σ_i x[i].
func Sum(x []float32) float32 { return kern.sum(x) }

// Max returns the largest element of x, which must not be empty.
func Max(x []float32) float32 { return kern.max(x) }

// Add computes z = x + y.
func Add(z, x, y []float32) { kern.add(z, x, y) }

// Mul computes z = x·y.
func Mul(z, x, y []float32) { kern.mul(z, x, y) }

// Axpy computes y += s·x.
func Axpy(s float32, x, y []float32) { kern.axpy(s, x, y) }

// MulAdd computes z += s·x·y.
func MulAdd(s float32, x, y, z []float32) { kern.mulAdd(s, x, y, z) }

// Scale computes x *= s.
func Scale(x []float32, s float32) { kern.scale(x, s) }

// Affine computes y = x·s + t.
func Affine(y, x []float32, s, t float32) { kern.affine(y, x, s, t) }

// Rotate computes y0 = x0·cos - s·x1·sin and y1 = x1·cos + s·x0·sin.
func Rotate(y0, y1, x0, x1, cos, sin []float32, s float32) {
	kern.rotate(y0, y1, x0, x1, cos, sin, s)
}

// ExpSum computes y = exp(x - shift) and returns the sum of y.
func ExpSum(y, x []float32, shift float32) float32 { return kern.expSum(y, x, shift) }

// Sigmoid computes y = 1/(1+exp(-x·(c1+c3·x²))).
func Sigmoid(y, x []float32, c1, c3 float32) { kern.sigmoid(y, x, c1, c3) }

// SiLUSlope computes the derivative of x·sigmoid(x·(c1+c3·x²)). y must not alias x.
func SiLUSlope(y, x []float32, c1, c3 float32) { kern.slope(y, x, c1, c3) }

// NormalCDF computes y = Φ(x), the cumulative distribution function of the standard normal distribution.
func NormalCDF(y, x []float32) { kern.cdf(y, x) }

// AdamWConstants are what a step of AdamW needs for every element. The assembly reads them in this order.
type AdamWConstants struct {
	GScale, Keep   float32 // g *= GScale, p *= Keep
	W1, Beta2, W2  float32 // m += W1·(g-m), v = Beta2·v + W2·g²
	RSqrt, Eps, LR float32 // p -= LR·m/(√v·RSqrt + Eps)
}

// AdamW makes one step of AdamW on parameters p with gradient g and averages m and v.
func AdamW(p, g, m, v []float32, s *AdamWConstants) { kern.adamw(p, g, m, v, s) }
