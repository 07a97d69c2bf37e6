package nn

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

var normSizes = [][2]int{{1, 1}, {2, 3}, {5, 64}, {3, 129}, {70, 300}}

// shifted returns numbers with a mean that is not 0.
func shifted(seed uint64, n int) []float32 {
	s := cputest.Normal(seed, n)
	for i := range s {
		s[i] = s[i]*0.7 + 0.5
	}
	return s
}

func TestRMSNorm(t *testing.T) {
	const eps = 1e-5
	cputest.OnPaths(t, func(t *testing.T) {
		for _, size := range normSizes {
			rows, dim := size[0], size[1]
			x, dy := shifted(1, rows*dim), cputest.Normal(3, rows*dim)
			for _, w := range [][]float32{nil, cputest.Normal(2, dim), cputest.Normal(2, 3*dim)} {
				weights := max(len(w), dim)
				y, inv, wantY, wantInv := cputest.Poisoned(rows*dim), cputest.Poisoned(rows), cputest.Poisoned(rows*dim), cputest.Poisoned(rows)
				RMSNorm(y, inv, x, w, rows, dim, eps)
				RMSNormRef(wantY, wantInv, x, w, rows, dim, eps)
				what := fmt.Sprintf("rows %d, dim %d, %d weights: ", rows, dim, len(w))
				cputest.Compare(t, what+"y", y, wantY, 2e-6)
				cputest.Compare(t, what+"inv", inv, wantInv, 2e-6)
				dx, dw, wantDX, wantDW := cputest.Poisoned(rows*dim), cputest.Normal(4, weights), cputest.Poisoned(rows*dim), cputest.Normal(4, weights)
				RMSNormBackward(dx, dw, dy, x, w, inv, rows, dim)
				RMSNormBackwardRef(wantDX, wantDW, dy, x, w, wantInv, rows, dim)
				cputest.Compare(t, what+"dx", dx, wantDX, 1e-5)
				cputest.Compare(t, what+"dw", dw, wantDW, 1e-5)
				alone := slices.Clone(dy)
				RMSNormBackward(alone, nil, alone, x, w, inv, rows, dim)
				cputest.Same(t, what+"dx in place", alone, dx)
				inPlace := slices.Clone(x)
				RMSNorm(inPlace, nil, inPlace, w, rows, dim, eps)
				cputest.Same(t, what+"y in place", inPlace, y)
			}
		}
	})
}

func TestLayerNorm(t *testing.T) {
	const eps = 1e-5
	cputest.OnPaths(t, func(t *testing.T) {
		for _, size := range normSizes {
			rows, dim := size[0], size[1]
			x, dy := shifted(1, rows*dim), cputest.Normal(3, rows*dim)
			for i := range 8 {
				var w, b []float32
				weights := dim * (1 + 2*(i/4)) // of one head for all, or of three
				if i&1 != 0 {
					w = cputest.Normal(2, weights)
				}
				if i&2 != 0 {
					b = cputest.Normal(5, weights)
				}
				what := fmt.Sprintf("rows %d, dim %d, %d weights, %d biases: ", rows, dim, len(w), len(b))
				y, mean, inv := cputest.Poisoned(rows*dim), cputest.Poisoned(rows), cputest.Poisoned(rows)
				wantY, wantMean, wantInv := cputest.Poisoned(rows*dim), cputest.Poisoned(rows), cputest.Poisoned(rows)
				LayerNorm(y, mean, inv, x, w, b, rows, dim, eps)
				LayerNormRef(wantY, wantMean, wantInv, x, w, b, rows, dim, eps)
				cputest.Compare(t, what+"y", y, wantY, 5e-6)
				cputest.Compare(t, what+"mean", mean, wantMean, 2e-6)
				cputest.Compare(t, what+"inv", inv, wantInv, 2e-6)
				dx, dw, db := cputest.Poisoned(rows*dim), cputest.Normal(6, weights), cputest.Normal(7, weights)
				wantDX, wantDW, wantDB := cputest.Poisoned(rows*dim), cputest.Normal(6, weights), cputest.Normal(7, weights)
				LayerNormBackward(dx, dw, db, dy, x, w, mean, inv, rows, dim)
				LayerNormBackwardRef(wantDX, wantDW, wantDB, dy, x, w, wantMean, wantInv, rows, dim)
				cputest.Compare(t, what+"dw", dw, wantDW, 1e-5)
				cputest.Compare(t, what+"db", db, wantDB, 1e-5)
				if dim > 3 { // of two values both are ±1: the gradient is rounding times 1/√eps
					cputest.Compare(t, what+"dx", dx, wantDX, 2e-5)
				}
			}
		}
	})
}

func TestNormGradients(t *testing.T) {
	const rows, dim, eps = 3, 37, 1e-5
	x, w, b, dy := shifted(1, rows*dim), cputest.Normal(2, dim), cputest.Normal(3, dim), cputest.Normal(4, rows*dim)
	y, mean, inv := make([]float32, rows*dim), make([]float32, rows), make([]float32, rows)
	cputest.OnPaths(t, func(t *testing.T) {
		dx, dw, db := cputest.Poisoned(rows*dim), make([]float32, dim), make([]float32, dim)
		rms := func() float64 {
			RMSNormRef(y, nil, x, w, rows, dim, eps)
			return cputest.Weighted(dy, y)
		}
		RMSNorm(y, inv, x, w, rows, dim, eps)
		RMSNormBackward(dx, dw, dy, x, w, inv, rows, dim)
		cputest.CheckGradient(t, "rms dx", x, dx, 1e-3, rms)
		cputest.CheckGradient(t, "rms dw", w, dw, 1e-3, rms)

		layer := func() float64 {
			LayerNormRef(y, nil, nil, x, w, b, rows, dim, eps)
			return cputest.Weighted(dy, y)
		}
		clear(dw)
		LayerNorm(y, mean, inv, x, w, b, rows, dim, eps)
		LayerNormBackward(dx, dw, db, dy, x, w, mean, inv, rows, dim)
		cputest.CheckGradient(t, "layer dx", x, dx, 1e-3, layer)
		cputest.CheckGradient(t, "layer dw", w, dw, 1e-3, layer)
		cputest.CheckGradient(t, "layer db", b, db, 1e-3, layer)
	})
}

func TestNormThreads(t *testing.T) {
	const rows, dim = 130, 300
	x, w, b, dy := shifted(1, rows*dim), cputest.Normal(2, dim), cputest.Normal(3, dim), cputest.Normal(4, rows*dim)
	cputest.WithThreads(t, func() []float32 {
		y, dx, mean, inv := make([]float32, rows*dim), make([]float32, rows*dim), make([]float32, rows), make([]float32, rows)
		dw, db := make([]float32, dim), make([]float32, dim)
		LayerNorm(y, mean, inv, x, w, b, rows, dim, 1e-5)
		LayerNormBackward(dx, dw, db, dy, x, w, mean, inv, rows, dim)
		RMSNorm(y, inv, x, w, rows, dim, 1e-5)
		RMSNormBackward(y, dw, dy, x, w, inv, rows, dim)
		return append(append(append(y, dx...), dw...), db...)
	})
}
