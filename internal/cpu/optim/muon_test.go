package optim

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"

	"gonum.org/v1/gonum/mat"
)

func TestMuon(t *testing.T) {
	o := Muon{LR: 1e-2, Size: 0.2, Momentum: 0.9, Decay: 0.1}
	cputest.OnPaths(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 1}, {1, 7}, {16, 5}, {5, 16}, {33, 33}, {160, 96}, {96, 131}} {
			rows, cols := s[0], s[1]
			n := rows * cols
			p, m := cputest.Normal(1, n), make([]float32, n)
			wantP, wantM := slices.Clone(p), slices.Clone(m)
			for step := range 3 {
				g := cputest.Normal(uint64(2+step), n)
				o.StepRef(wantP, g, wantM, rows, cols, 0.7)
				o.Step(p, g, m, rows, cols, 0.7)
			}
			cputest.Compare(t, fmt.Sprintf("%v: m", s), m, wantM, 1e-6)
			cputest.Compare(t, fmt.Sprintf("%v: p", s), p, wantP, 2e-5)
		}
	})
}

// Large squares are computed by halves: the parts of small ones must give the same.
func TestMuonHalves(t *testing.T) {
	defer func(n int) { squareRows = n }(squareRows)
	squareRows = mirrorTile
	if !testing.Short() {
		TestMuon(t)
	}
	TestMuonThreads(t)
}

// A gradient of zeros moves nothing but by the decay.
func TestMuonZeros(t *testing.T) {
	p, g, m := cputest.Normal(1, 12), make([]float32, 12), make([]float32, 12)
	want := slices.Clone(p)
	blas.Scale(want, float32(1-1e-2*0.1))
	Muon{LR: 1e-2, Size: 0.2, Momentum: 0.9, Decay: 0.1}.Step(p, g, m, 3, 4, 1)
	cputest.Same(t, "p", p, want)
}

func TestMuonThreads(t *testing.T) {
	cputest.WithThreads(t, func() []float32 {
		p, g, m := cputest.Normal(1, 200*300), cputest.Normal(2, 200*300), make([]float32, 200*300)
		Muon{LR: 1, Size: 0.2, Momentum: 0.95}.Step(p, g, m, 200, 300, 1)
		return p
	})
}

// TestOrthogonalise wants singular values near one, and the directions kept: tall, wide and square.
func TestOrthogonalise(t *testing.T) {
	for _, shape := range [][2]int{{5, 16}, {16, 5}, {9, 9}, {1, 4}} {
		rows, cols := shape[0], shape[1]
		g := cputest.Normal(9, rows*cols)
		blas.Scale(g, 1e-3)
		before := mat.NewDense(rows, cols, inFloat64(g))
		orthogonalise(g, rows, cols, nil)
		var svd mat.SVD
		if !svd.Factorize(mat.NewDense(rows, cols, inFloat64(g)), mat.SVDThin) {
			t.Fatal("no decomposition")
		}
		for _, s := range svd.Values(nil) {
			if s < 0.5 || s > 1.3 {
				t.Errorf("%v: a singular value of %g", shape, s)
			}
		}
		var u, v, ours, exact mat.Dense
		svd.UTo(&u)
		svd.VTo(&v)
		ours.Mul(u.T(), before)
		exact.Mul(&ours, &v) // diagonal where the singular vectors are the same
		for i := range min(rows, cols) {
			for j := range min(rows, cols) {
				if off := math.Abs(exact.At(i, j)); i != j && off > 1e-2*math.Abs(exact.At(i, i)) {
					t.Errorf("%v: singular vectors %d and %d are mixed by %g", shape, i, j, off)
				}
			}
		}
	}
}

func inFloat64(x []float32) []float64 {
	y := make([]float64, len(x))
	simd.ToFloat64(y, x)
	return y
}
