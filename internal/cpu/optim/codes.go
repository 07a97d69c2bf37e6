package optim

import (
	"math"
	"math/bits"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// CodeBlock is how many numbers share a scale, their largest magnitude.
const CodeBlock = 256

// Codes are numbers of a byte each, in blocks with a scale of their own: the dynamic data type of Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization" (arXiv 2110.02861). The magnitudes between two powers of ten are evenly spaced, half as many as in the decade
// above. Here magnitudes are the upper ends of their intervals, so the largest is 1 and numbers that were read are stored as the same codes.
//
// A code c ≥ 1 is 2^i + k with k < 2^i, and stands for 10^(i-decades)·(1 + 9·(k+1)/2^i), times the scale; 0 is 0. With a sign there are 7
// decades, and a code is an int8 with the sign of its number; without, there are 8. Positive numbers without sign are never stored as 0,
// since the optimizer divides by them.
type Codes struct {
	Bytes  []byte
	Scales []float32 // one for each CodeBlock of Bytes
	Signed bool
}

// lowEnds are the lower ends of decades, the last of which ends at 1.
var lowEnds = [8]float32{1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1}

// decades returns the number of decades.
func (c Codes) decades() int {
	if c.Signed {
		return 7
	}
	return 8
}

// code returns the code of y, which is 0 to 1.
func (c Codes) code(y float32) int {
	n := c.decades()
	lows := lowEnds[8-n:]
	i := n - 1
	for i > 0 && y <= lows[i] {
		i--
	}
	part := float32(int(1) << i)
	code := int(part) - 1 + int(max(0, (y/lows[i]-1)*(part/9)+0.5))
	if !c.Signed && y > 0 {
		code = max(code, 1)
	}
	return code
}

// magnitude returns what a code stands for.
func (c Codes) magnitude(code int) float32 {
	if code == 0 {
		return 0
	}
	i := bits.Len(uint(code)) - 1
	part := float32(int(1) << i)
	return lowEnds[8-c.decades()+i] * (1 + 9*(float32(code+1)-part)/part)
}

// Load writes the numbers from number lo on, the first of a block, to dst.
func (c Codes) Load(dst []float32, lo int) {
	for b := 0; b < len(dst); b += CodeBlock {
		scale := c.Scales[(lo+b)/CodeBlock]
		for i := b; i < min(b+CodeBlock, len(dst)); i++ {
			if code := c.Bytes[lo+i]; !c.Signed {
				dst[i] = c.magnitude(int(code)) * scale
			} else if s := int(int8(code)); s < 0 {
				dst[i] = -c.magnitude(-s) * scale
			} else {
				dst[i] = c.magnitude(s) * scale
			}
		}
	}
}

// Store stores numbers from number lo on, the first of a block.
func (c Codes) Store(lo int, src []float32) {
	for b := 0; b < len(src); b += CodeBlock {
		block, scale := src[b:min(b+CodeBlock, len(src))], float32(0)
		for _, x := range block {
			scale = max(scale, float32(math.Abs(float64(x))))
		}
		c.Scales[(lo+b)/CodeBlock] = scale
		to := c.Bytes[lo+b:][:len(block)]
		if scale == 0 {
			clear(to)
			continue
		}
		for i, x := range block {
			if code := c.code(float32(math.Abs(float64(x))) / scale); x < 0 && c.Signed {
				to[i] = byte(int8(-code))
			} else {
				to[i] = byte(code)
			}
		}
	}
}

// Halves are numbers in bfloat16.
type Halves []uint16

// Load writes the numbers from number lo on to dst.
func (h Halves) Load(dst []float32, lo int) { blas.DecodeHalf(simd.BF16, dst, h[lo:lo+len(dst)]) }

// Store stores numbers from number lo on.
func (h Halves) Store(lo int, src []float32) { blas.EncodeHalf(simd.BF16, h[lo:lo+len(src)], src) }

// Averages are numbers stored in another form than float32: Codes or Halves.
type Averages interface {
	Load(dst []float32, lo int)
	Store(lo int, src []float32)
}

// StepStored is Step with averages in another form. What a step computes with is not rounded, only what it leaves for the next.
func (o AdamW) StepStored(p, g []float32, m, v Averages, gscale float32, t int) {
	const some = 8 * CodeBlock
	s := o.constants(gscale, t)
	pool.For(pool.CeilDiv(len(p), some), 1, func(lo, hi int) {
		var mOf, vOf [some]float32
		for at := lo * some; at < min(hi*some, len(p)); at += some {
			n := min(some, len(p)-at)
			m.Load(mOf[:n], at)
			v.Load(vOf[:n], at)
			simd.AdamW(p[at:at+n], g[at:at+n], mOf[:n], vOf[:n], &s)
			m.Store(at, mOf[:n])
			v.Store(at, vOf[:n])
		}
	})
}

// StepStoredRef is the definition of StepStored, in float64 but for the averages.
func (o AdamW) StepStoredRef(p, g []float32, m, v Averages, gscale float32, t int) {
	mOf, vOf := make([]float32, len(p)), make([]float32, len(p))
	m.Load(mOf, 0)
	v.Load(vOf, 0)
	o.StepRef(p, g, mOf, vOf, gscale, t)
	m.Store(0, mOf)
	v.Store(0, vOf)
}
