package simd

import "math"

// Constants of exp: x = n·ln2 + r with |r| <= ln2/2, exp(x) = 2ⁿ·p(r). ln2 is split in two so that n·ln2Hi is exact.
// p is the Cephes minimax polynomial of degree 7 for exp in single precision.
const (
	expMax = 88.72283
	expMin = -87.33655 // below it the result is not a normal number: 0
	log2e  = 1.44269504
	ln2Hi  = 0.693359375
	ln2Lo  = -2.12194440e-4
	expC5  = 1.9875691500e-4
	expC4  = 1.3981999507e-3
	expC3  = 8.3334519073e-3
	expC2  = 4.1665795894e-2
	expC1  = 1.6666665459e-1
	expC0  = 5.0000001201e-1
)

// Exp returns eˣ within 2 units in the last place; below the normal numbers it returns 0. The assembly follows it.
func Exp(x float32) float32 {
	switch {
	case x > expMax:
		return float32(math.Inf(1))
	case x < expMin:
		return 0
	case x != x:
		return x
	}
	const shift = 3 << 22 // adding it rounds to an integer, in the low bits
	n := x*log2e + shift
	k := int32(math.Float32bits(n)) - int32(math.Float32bits(shift))
	n -= shift
	r := x - n*ln2Hi
	r -= n * ln2Lo
	p := ((((expC5*r+expC4)*r+expC3)*r+expC2)*r+expC1)*r + expC0
	p = p*r*r + r + 1
	// In two steps: 2ⁿ alone overflows at n = 128.
	half := k >> 1
	return p * pow2(half) * pow2(k-half)
}

func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// cdfPoly is the minimax polynomial, in relative error (1.4e-8), of Φ(-z)·exp(z²/2) over u = 2/(2+z) - cdfMiddle for z
// from 0 to 14, highest power first. Remez's algorithm found it.
var cdfPoly = [...]float32{
	-0.0423693801, 0.0443989357, 0.0278026522, -0.0792254875, 0.0403987932, 0.0718226586, -0.12940691, -0.050753951,
	0.353883496, 0.546604812, 0.200872092,
}

const cdfMiddle = 0.5625

// cdf32 returns Φ(x), the cumulative distribution function of the standard normal distribution. The assembly follows it.
func cdf32(x float32) float32 {
	z := abs(x)
	u := 2/(2+z) - cdfMiddle
	p := cdfPoly[0]
	for _, c := range cdfPoly[1:] {
		p = p*u + c
	}
	p *= Exp(-0.5 * z * z)
	if x > 0 {
		return 1 - p
	}
	return p
}

func abs(x float32) float32 { return max(x, -x) }
