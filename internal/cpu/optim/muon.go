package optim

import (
	"math"
	"sync"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
)

// Muon is the optimizer of Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", for matrices. A step
// goes equally far in every direction of the averaged gradient. With a Size of 0.2 it has the semantics of
// torch.optim.Muon with adjust_lr_fn "match_rms_adamw" (Liu et al. 2025, arXiv 2502.16982, equation 4), in float32.
type Muon struct {
	LR       float64 // learning rate of this step
	Size     float64 // root mean square of a step of rate 1; 0.2 is about AdamW's
	Momentum float64 // decay of the average of g
	Decay    float64 // weight decay, applied as p *= 1 - LR·Decay
	// Stop, if not nil, is called between products. Once it returns true the step ends early, and p means nothing.
	Stop func() bool
}

// Step makes a step on the matrix p [rows, cols] with gradient g·gscale and the average m. g is overwritten.
func (o Muon) Step(p, g, m []float32, rows, cols int, gscale float32) {
	o.average(g, m, gscale)
	orthogonalise(g, rows, cols, o.Stop)
	if o.Decay != 0 {
		blas.Scale(p, float32(1-o.LR*o.Decay))
	}
	blas.Axpy(float32(-o.stretch(rows, cols)), g, p)
}

// average adds the gradient g·gscale to its average m, and sets g to the average looking a step ahead (Nesterov).
func (o Muon) average(g, m []float32, gscale float32) {
	fresh := float32(1-o.Momentum) * gscale
	blas.Scale(m, float32(o.Momentum))
	blas.Axpy(fresh, g, m)
	blas.Scale(g, fresh)
	blas.Axpy(float32(o.Momentum), m, g)
}

// stretch returns what an orthogonal matrix is multiplied by. Its root mean square is one over the root of its longer side.
func (o Muon) stretch(rows, cols int) float64 {
	return o.LR * o.Size * math.Sqrt(float64(max(rows, cols)))
}

const orthogonalSteps = 5

// orthogonalWeights are the coefficients of a quintic (Jordan et al.) that brings singular values near 1 fast, not exactly: they end
// between 0.7 and 1.2.
var orthogonalWeights = [3]float64{3.4445, -4.7750, 2.0315}

// orthogonalWork is the scratch of orthogonalise: the square of the shorter side, a polynomial of it, and another g.
type orthogonalWork struct{ square, poly, next []float32 }

var orthogonalWorks = sync.Pool{New: func() any { return new(orthogonalWork) }}

// orthogonalise keeps the singular vectors of g [rows, cols] and brings its singular values near 1, in place, by Newton–Schulz
// iterations: X becomes (a + b·XXᵀ + c·(XXᵀ)²)·X.
func orthogonalise(g []float32, rows, cols int, stop func() bool) {
	blas.Scale(g, float32(1/(math.Sqrt(blas.SumSquares(g))+1e-30)))
	w := orthogonalWorks.Get().(*orthogonalWork)
	defer orthogonalWorks.Put(w)
	w.grow(min(rows, cols), len(g))
	copy(w.next, g)
	for range orthogonalSteps {
		if stop != nil && stop() {
			return
		}
		w.step(g, rows, cols)
	}
}

func (w *orthogonalWork) grow(n, size int) {
	w.square, w.poly, w.next = memory.Grow(w.square, n*n), memory.Grow(w.poly, n*n), memory.Grow(w.next, size)
}

// step makes one step. At its start and end w.next is g.
func (w *orthogonalWork) step(g []float32, rows, cols int) {
	a, n := float32(orthogonalWeights[0]), min(rows, cols)
	w.powers(g, rows, cols)
	if rows > cols {
		blas.Gemm(false, false, rows, cols, n, 1, g, cols, w.poly, n, a, w.next, cols)
	} else {
		blas.Gemm(false, false, rows, cols, n, 1, w.poly, n, g, cols, a, w.next, cols)
	}
	copy(g, w.next)
}

// powers computes the square of the shorter side of g and the polynomial b·square + c·square².
func (w *orthogonalWork) powers(g []float32, rows, cols int) {
	b, c, n := float32(orthogonalWeights[1]), float32(orthogonalWeights[2]), min(rows, cols)
	symmetric(w.square, n, func(m, k, at int, to []float32) {
		if rows > cols { // gᵀ·g
			blas.Gemm(true, false, m, k, rows, 1, g[at:], cols, g[at:], cols, 0, to, n)
		} else { // g·gᵀ
			blas.Gemm(false, true, m, k, cols, 1, g[at*cols:], cols, g[at*cols:], cols, 0, to, n)
		}
	})
	copy(w.poly, w.square)
	symmetric(w.poly, n, func(m, k, at int, to []float32) {
		blas.Gemm(false, false, m, k, n, c, w.square[at*n:], n, w.square[at:], n, b, to, n)
	})
}

// squareRows is how many rows of a symmetric matrix are computed at a time, a multiple of mirrorTile: enough for fast products.
var squareRows = 512

// mirrorTile is the side of the square that is mirrored at a time, small enough for the caches.
const mirrorTile = 32

// symmetric fills the symmetric matrix c [n,n]: product computes rows [at,at+m) and the last k columns into to. The rest is mirrored.
func symmetric(c []float32, n int, product func(m, k, at int, to []float32)) {
	for at := 0; at < n; at += squareRows {
		product(min(squareRows, n-at), n-at, at, c[at*n+at:])
	}
	if n <= squareRows {
		return
	}
	mirror(c, n)
}

// mirror copies what is above the diagonal blocks of c [n,n] to below them.
func mirror(c []float32, n int) {
	const tile = mirrorTile
	pool.For(pool.CeilDiv(n, tile), 1, func(lo, hi int) {
		for i := lo * tile; i < min(hi*tile, n); i += tile {
			for j := 0; j < i; j += tile {
				for r := max(i, (j/squareRows+1)*squareRows); r < min(i+tile, n); r++ {
					for q := j; q < j+tile; q++ {
						c[r*n+q] = c[q*n+r]
					}
				}
			}
		}
	})
}

// StepRef is the definition of Step, in float64.
func (o Muon) StepRef(p, g, m []float32, rows, cols int, gscale float32) {
	ahead := make([]float64, len(g))
	for i := range g {
		d := float64(g[i]) * float64(gscale)
		m1 := o.Momentum*float64(m[i]) + (1-o.Momentum)*d
		ahead[i], m[i] = o.Momentum*m1+(1-o.Momentum)*d, float32(m1)
	}
	orthogonaliseRef(ahead, rows, cols)
	for i := range p {
		p[i] = float32(float64(p[i])*(1-o.LR*o.Decay) - o.stretch(rows, cols)*ahead[i])
	}
}

// orthogonaliseRef is the definition of orthogonalise, with g·gᵀ of the rows whichever side is longer.
func orthogonaliseRef(g []float64, rows, cols int) {
	norm := math.Sqrt(dot(g, g)) + 1e-30
	for i := range g {
		g[i] /= norm
	}
	for range orthogonalSteps {
		once := squareTimes(g, g, rows, cols)
		twice := squareTimes(g, once, rows, cols)
		for i := range g {
			g[i] = orthogonalWeights[0]*g[i] + orthogonalWeights[1]*once[i] + orthogonalWeights[2]*twice[i]
		}
	}
}

// squareTimes returns g·gᵀ·x, all [rows, cols].
func squareTimes(g, x []float64, rows, cols int) []float64 {
	z := make([]float64, len(x))
	for i := range rows {
		for j := range rows {
			s := dot(g[i*cols:][:cols], g[j*cols:][:cols])
			for k := range cols {
				z[i*cols+k] += s * x[j*cols+k]
			}
		}
	}
	return z
}

func dot(x, y []float64) (sum float64) {
	for i, v := range x {
		sum += v * y[i]
	}
	return sum
}
