package nn

import (
	"math"

	"gqa/internal/activation"
)

// value is the definition of each activation, in float64.
func value(act activation.Func, x float64) float64 {
	switch act {
	case activation.ReLU:
		return max(x, 0)
	case activation.SiLU:
		return x / (1 + math.Exp(-x))
	case activation.GELU:
		return x * 0.5 * math.Erfc(-x/math.Sqrt2)
	case activation.GELUTanh:
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case activation.QuickGELU:
		return x / (1 + math.Exp(-1.702*x))
	case activation.ReLU2:
		return max(x, 0) * max(x, 0)
	}
	return x
}

// slope is the derivative of value.
func slope(act activation.Func, x float64) float64 {
	sigmoid := func(z float64) float64 { return 1 / (1 + math.Exp(-z)) }
	switch act {
	case activation.ReLU:
		if x > 0 {
			return 1
		}
		return 0
	case activation.SiLU:
		s := sigmoid(x)
		return s + x*s*(1-s)
	case activation.GELU:
		return 0.5*math.Erfc(-x/math.Sqrt2) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	case activation.GELUTanh:
		c := math.Sqrt(2 / math.Pi)
		t := math.Tanh(c * (x + 0.044715*x*x*x))
		return (1+t)/2 + x/2*(1-t*t)*c*(1+3*0.044715*x*x)
	case activation.QuickGELU:
		s := sigmoid(1.702 * x)
		return s + x*s*(1-s)*1.702
	case activation.ReLU2:
		return 2 * max(x, 0)
	}
	return 1
}

// ActivateRef is the definition of Activate, in float64.
func ActivateRef(act activation.Func, y, x []float32) {
	for i, v := range x {
		y[i] = float32(value(act, float64(v)))
	}
}

// ActivateBackwardRef is the definition of ActivateBackward, in float64.
func ActivateBackwardRef(act activation.Func, dx, dy, x []float32) {
	for i, v := range x {
		dx[i] = float32(float64(dy[i]) * slope(act, float64(v)))
	}
}

// GateRef is the definition of Gate, in float64.
func GateRef(act activation.Func, y, gate, up []float32) {
	for i, v := range gate {
		y[i] = float32(value(act, float64(v)) * float64(up[i]))
	}
}

// GateBackwardRef is the definition of GateBackward, in float64.
func GateBackwardRef(act activation.Func, dgate, dup, dy, gate, up []float32) {
	for i, v := range gate {
		x, d, u := float64(v), float64(dy[i]), float64(up[i])
		dgate[i], dup[i] = float32(d*u*slope(act, x)), float32(d*value(act, x))
	}
}
