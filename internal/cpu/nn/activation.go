package nn

import (
	"sync"

	"gqa/internal/activation"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// cubic returns the constants of a smooth activation. These are x·s(x), and for all but GELU s(x) = sigmoid(x·(c1 + c3·x²)), because
// tanh(z) = 2·sigmoid(2z) - 1.
func cubic(act activation.Func) (c1, c3 float32) {
	switch act {
	case activation.QuickGELU:
		return 1.702, 0
	case activation.GELUTanh:
		const c = 2 * 0.7978845608028654 // 2·√(2/π)
		return c, c * 0.044715
	}
	return 1, 0
}

// actBlock is how many elements pass through the scratch at a time.
const actBlock = 512

var actScratch = sync.Pool{New: func() any { return new([actBlock]float32) }}

// gates computes s(x) of a smooth activation.
func gates(act activation.Func, s, x []float32) {
	if act == activation.GELU {
		simd.NormalCDF(s, x)
		return
	}
	c1, c3 := cubic(act)
	simd.Sigmoid(s, x, c1, c3)
}

// Activate computes y = act(x). y may alias x.
func Activate(act activation.Func, y, x []float32) {
	if len(x) <= pool.BlockElements {
		activate(act, y, x)
		return
	}
	pool.For(len(x), pool.BlockElements, func(lo, hi int) { activate(act, y[lo:hi], x[lo:hi]) })
}

func activate(act activation.Func, y, x []float32) {
	y = y[:len(x)]
	switch act {
	case activation.Identity:
		copy(y, x)
	case activation.ReLU:
		for i, v := range x {
			y[i] = max(v, 0)
		}
	case activation.ReLU2:
		for i, v := range x {
			v = max(v, 0)
			y[i] = v * v
		}
	default:
		scratch := actScratch.Get().(*[actBlock]float32)
		for i := 0; i < len(x); i += actBlock {
			part := x[i:min(i+actBlock, len(x))]
			s := scratch[:len(part)]
			gates(act, s, part)
			simd.Mul(y[i:][:len(part)], part, s)
		}
		actScratch.Put(scratch)
	}
}

// ActivateBackward computes dx = dy·act'(x). dx may alias dy or x.
func ActivateBackward(act activation.Func, dx, dy, x []float32) {
	if len(x) <= pool.BlockElements {
		activateBackward(act, dx, dy, x)
		return
	}
	pool.For(len(x), pool.BlockElements, func(lo, hi int) { activateBackward(act, dx[lo:hi], dy[lo:hi], x[lo:hi]) })
}

func activateBackward(act activation.Func, dx, dy, x []float32) {
	scratch := actScratch.Get().(*[actBlock]float32)
	for i := 0; i < len(x); i += actBlock {
		part := x[i:min(i+actBlock, len(x))]
		slope := scratch[:len(part)]
		slopes(act, slope, part)
		simd.Mul(dx[i:][:len(part)], slope, dy[i:][:len(part)])
	}
	actScratch.Put(scratch)
}

// slopes computes d = act'(x) of up to actBlock elements. d must not alias x.
func slopes(act activation.Func, d, x []float32) {
	d = d[:len(x)]
	switch act {
	case activation.Identity:
		for i := range d {
			d[i] = 1
		}
	case activation.ReLU:
		for i, v := range x {
			d[i] = 0
			if v > 0 {
				d[i] = 1
			}
		}
	case activation.ReLU2:
		for i, v := range x {
			d[i] = 2 * max(v, 0)
		}
	case activation.GELU:
		geluSlopes(d, x)
	default:
		c1, c3 := cubic(act)
		simd.SiLUSlope(d, x, c1, c3)
	}
}

// geluSlopes computes d = Φ(x) + x·φ(x), φ(x) = exp(-x²/2)/√(2π).
func geluSlopes(d, x []float32) {
	scratch := actScratch.Get().(*[actBlock]float32)
	density := scratch[:len(x)]
	simd.Mul(density, x, x)
	simd.Scale(density, -0.5)
	simd.ExpSum(density, density, 0)
	simd.NormalCDF(d, x)
	const perRootTau = 0.3989422804014327
	simd.MulAdd(perRootTau, x, density, d)
	actScratch.Put(scratch)
}

// Gate computes y = act(gate)·up. y may alias either.
func Gate(act activation.Func, y, gate, up []float32) {
	if len(gate) <= pool.BlockElements {
		gateBlock(act, y, gate, up)
		return
	}
	pool.For(len(gate), pool.BlockElements, func(lo, hi int) { gateBlock(act, y[lo:hi], gate[lo:hi], up[lo:hi]) })
}

func gateBlock(act activation.Func, y, gate, up []float32) {
	scratch := actScratch.Get().(*[actBlock]float32)
	for i := 0; i < len(gate); i += actBlock {
		part := gate[i:min(i+actBlock, len(gate))]
		a := scratch[:len(part)]
		activate(act, a, part)
		simd.Mul(y[i:][:len(part)], a, up[i:][:len(part)])
	}
	actScratch.Put(scratch)
}

// GateBackward computes dgate = dy·up·act'(gate) and dup = dy·act(gate). Each output may alias any input.
func GateBackward(act activation.Func, dgate, dup, dy, gate, up []float32) {
	if len(gate) <= pool.BlockElements {
		gateBackward(act, dgate, dup, dy, gate, up)
		return
	}
	pool.For(len(gate), pool.BlockElements, func(lo, hi int) {
		gateBackward(act, dgate[lo:hi], dup[lo:hi], dy[lo:hi], gate[lo:hi], up[lo:hi])
	})
}

func gateBackward(act activation.Func, dgate, dup, dy, gate, up []float32) {
	values, scratch := actScratch.Get().(*[actBlock]float32), actScratch.Get().(*[actBlock]float32)
	for i := 0; i < len(gate); i += actBlock {
		n := min(actBlock, len(gate)-i)
		g, d, u, dg, du := gate[i:][:n], dy[i:][:n], up[i:][:n], dgate[i:][:n], dup[i:][:n]
		a, s := values[:n], scratch[:n]
		activate(act, a, g)
		slopes(act, s, g)
		simd.Mul(a, a, d)
		simd.Mul(s, s, d)
		simd.Mul(dg, s, u)
		copy(du, a)
	}
	actScratch.Put(values)
	actScratch.Put(scratch)
}
