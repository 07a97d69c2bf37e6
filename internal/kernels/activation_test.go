package kernels

import (
	"fmt"
	"math"
	"testing"
)

var activations = []Activation{Identity, ReLU, SiLU, GELU, GELUTanh, QuickGELU, ReLU2}

// inputs returns n numbers from -12 to 12, and some far ones.
func inputs(n int) []float32 {
	x := normal(1, n)
	for i := range x {
		x[i] *= 3
	}
	return append(x, 0, 90, -90, 1e4, -1e4, 1e-20)
}

func TestActivations(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, act := range activations {
			for _, n := range []int{0, 1, 600, 40000} {
				x := inputs(n)
				dy, up := normal(2, len(x)), normal(3, len(x))
				what := fmt.Sprintf("activation %d, n %d: ", act, n)
				y, want := poisoned(len(x)), poisoned(len(x))
				Activate(act, y, x)
				ActivateRef(act, want, x)
				compare(t, what+"y", y, want, 1e-6)
				ActivateBackward(act, y, dy, x)
				ActivateBackwardRef(act, want, dy, x)
				compare(t, what+"dx", y, want, 3e-6)
				Gate(act, y, x, up)
				GateRef(act, want, x, up)
				compare(t, what+"gate", y, want, 2e-6)
				dg, du, wantDG, wantDU := clone(x), clone(up), poisoned(len(x)), poisoned(len(x))
				GateBackward(act, dg, du, dy, dg, du)
				GateBackwardRef(act, wantDG, wantDU, dy, x, up)
				compare(t, what+"dgate", dg, wantDG, 1e-5)
				compare(t, what+"dup", du, wantDU, 3e-6)
			}
		}
	})
}

func TestActivationGradients(t *testing.T) {
	x := normal(1, 400)
	for i := range x {
		if abs(x[i]) < 0.02 { // the kink of ReLU has no difference quotient
			x[i] = 0.5
		}
	}
	w := normal(2, len(x))
	for _, act := range activations {
		dx, y := make([]float32, len(x)), make([]float32, len(x))
		ActivateBackward(act, dx, w, x)
		checkGradient(t, fmt.Sprintf("activation %d: dx", act), x, dx, 2e-3, func() float64 {
			ActivateRef(act, y, x)
			return weighted(w, y)
		})
	}
}

func TestActivateInPlace(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		for _, act := range activations {
			x := inputs(1000)
			y := make([]float32, len(x))
			Activate(act, y, x)
			Activate(act, x, x)
			same(t, fmt.Sprintf("activation %d in place", act), x, y)
		}
	})
}

func TestExp(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		var x []float32
		for v := float32(-87.3); v < 88.7; v += 0.0137 {
			x = append(x, v)
		}
		y := poisoned(len(x))
		for i, v := range x {
			kern.expSum(y[i:i+1], x[i:i+1], 0)
			if i%16 == 0 {
				kern.expSum(y[:i+1], x[:i+1], 0)
			}
			want := math.Exp(float64(v))
			if d := math.Abs(float64(y[i])-want) / want; !(d < 2.5e-7) {
				t.Fatalf("exp(%v) = %v, want %v: %g off", v, y[i], want, d)
			}
		}
		edge := []float32{0, -1e9, float32(math.Inf(-1)), 89, nan}
		sum := kern.expSum(edge[:4], edge[:4], 0)
		kern.expSum(edge[4:], edge[4:], 0)
		far := []float32{300, 1e9, float32(math.Inf(1)), 89, 300}
		kern.expSum(far, far, 0)
		for i, v := range far {
			if !math.IsInf(float64(v), 1) {
				t.Errorf("exp of number %d of 300, 1e9, +Inf, 89, 300 is %v, want +Inf", i, v)
			}
		}
		if edge[0] != 1 || edge[1] > 1e-38 || edge[2] != 0 || !math.IsInf(float64(edge[3]), 1) || !math.IsInf(float64(sum), 1) || edge[4] == edge[4] {
			t.Errorf("exp(0, -1e9, -Inf, 89, NaN) = %v, sum of the first four %v", edge, sum)
		}
	})
}

func TestCDF(t *testing.T) {
	onPaths(t, func(t *testing.T) {
		var x []float32
		for v := float32(-14); v < 14; v += 0.0031 {
			x = append(x, v)
		}
		y := poisoned(len(x))
		kern.cdf(y, x)
		for i, v := range x {
			want := 0.5 * math.Erfc(-float64(v)/math.Sqrt2)
			// The density's exponent has the rounding of x²/2, relative to the result: up to 5e-6 in the far tail.
			if d := math.Abs(float64(y[i]) - want); !(d <= 2e-7*min(1, want*(2+float64(v)*float64(v)))+1e-37) {
				t.Fatalf("Φ(%v) = %v, want %v: %g off", v, y[i], want, d)
			}
		}
		edge := []float32{0, float32(math.Inf(1)), float32(math.Inf(-1)), nan}
		kern.cdf(edge, edge)
		compare(t, "Φ(0, +Inf, -Inf, NaN)", edge, []float32{0.5, 1, 0, nan}, 1e-7)
	})
}
