package nn

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/activation"
	"gqa/internal/cpu/cputest"
)

var activations = []activation.Func{
	activation.Identity, activation.ReLU, activation.SiLU, activation.GELU, activation.GELUTanh, activation.QuickGELU, activation.ReLU2,
}

// inputs returns n numbers from -12 to 12, and some far ones.
func inputs(n int) []float32 {
	x := cputest.Normal(1, n)
	for i := range x {
		x[i] *= 3
	}
	return append(x, 0, 90, -90, 1e4, -1e4, 1e-20)
}

func TestActivations(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, act := range activations {
			for _, n := range []int{0, 1, 600, 40000} {
				x := inputs(n)
				dy, up := cputest.Normal(2, len(x)), cputest.Normal(3, len(x))
				what := fmt.Sprintf("%v, n %d: ", act, n)
				y, want := cputest.Poisoned(len(x)), cputest.Poisoned(len(x))
				Activate(act, y, x)
				ActivateRef(act, want, x)
				cputest.Compare(t, what+"y", y, want, 1e-6)
				ActivateBackward(act, y, dy, x)
				ActivateBackwardRef(act, want, dy, x)
				cputest.Compare(t, what+"dx", y, want, 3e-6)
				Gate(act, y, x, up)
				GateRef(act, want, x, up)
				cputest.Compare(t, what+"gate", y, want, 2e-6)
				dg, du, wantDG, wantDU := slices.Clone(x), slices.Clone(up), cputest.Poisoned(len(x)), cputest.Poisoned(len(x))
				GateBackward(act, dg, du, dy, dg, du)
				GateBackwardRef(act, wantDG, wantDU, dy, x, up)
				cputest.Compare(t, what+"dgate", dg, wantDG, 1e-5)
				cputest.Compare(t, what+"dup", du, wantDU, 3e-6)
			}
		}
	})
}

func TestActivationGradients(t *testing.T) {
	x := cputest.Normal(1, 400)
	for i := range x {
		if cputest.Abs(x[i]) < 0.02 { // the kink of ReLU has no difference quotient
			x[i] = 0.5
		}
	}
	w := cputest.Normal(2, len(x))
	for _, act := range activations {
		dx, y := make([]float32, len(x)), make([]float32, len(x))
		ActivateBackward(act, dx, w, x)
		cputest.CheckGradient(t, fmt.Sprintf("%v: dx", act), x, dx, 2e-3, func() float64 {
			ActivateRef(act, y, x)
			return cputest.Weighted(w, y)
		})
	}
}

func TestActivateInPlace(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, act := range activations {
			x := inputs(1000)
			y := make([]float32, len(x))
			Activate(act, y, x)
			Activate(act, x, x)
			cputest.Same(t, fmt.Sprintf("%v in place", act), x, y)
		}
	})
}
