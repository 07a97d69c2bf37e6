package kernels

import "math"

// value and slope are the definition of each activation, in float64.
func (act Activation) value(x float64) float64 {
	switch act {
	case ReLU:
		return max(x, 0)
	case SiLU:
		return x / (1 + math.Exp(-x))
	case GELU:
		return x * 0.5 * math.Erfc(-x/math.Sqrt2)
	case GELUTanh:
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case QuickGELU:
		return x / (1 + math.Exp(-1.702*x))
	case ReLU2:
		return max(x, 0) * max(x, 0)
	}
	return x
}

func (act Activation) slope(x float64) float64 {
	sigmoid := func(z float64) float64 { return 1 / (1 + math.Exp(-z)) }
	switch act {
	case ReLU:
		if x > 0 {
			return 1
		}
		return 0
	case SiLU:
		s := sigmoid(x)
		return s + x*s*(1-s)
	case GELU:
		return 0.5*math.Erfc(-x/math.Sqrt2) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	case GELUTanh:
		c := math.Sqrt(2 / math.Pi)
		t := math.Tanh(c * (x + 0.044715*x*x*x))
		return (1+t)/2 + x/2*(1-t*t)*c*(1+3*0.044715*x*x)
	case QuickGELU:
		s := sigmoid(1.702 * x)
		return s + x*s*(1-s)*1.702
	case ReLU2:
		return 2 * max(x, 0)
	}
	return 1
}

// ActivateRef is the definition of Activate, in float64.
func ActivateRef(act Activation, y, x []float32) {
	for i, v := range x {
		y[i] = float32(act.value(float64(v)))
	}
}

// ActivateBackwardRef is the definition of ActivateBackward, in float64.
func ActivateBackwardRef(act Activation, dx, dy, x []float32) {
	for i, v := range x {
		dx[i] = float32(float64(dy[i]) * act.slope(float64(v)))
	}
}

// GateRef is the definition of Gate, in float64.
func GateRef(act Activation, y, gate, up []float32) {
	for i, v := range gate {
		y[i] = float32(act.value(float64(v)) * float64(up[i]))
	}
}

// GateBackwardRef is the definition of GateBackward, in float64.
func GateBackwardRef(act Activation, dgate, dup, dy, gate, up []float32) {
	for i, v := range gate {
		x, d, u := float64(v), float64(dy[i]), float64(up[i])
		dgate[i], dup[i] = float32(d*u*act.slope(x)), float32(d*act.value(x))
	}
}
