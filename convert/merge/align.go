package merge

import (
	"math"
	"math/cmplx"
	"slices"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/pool"

	"gonum.org/v1/gonum/mat"
)

// rounds limits the rounds of an alignment; it stops as soon as a round gains less than enough.
const rounds, enough = 30, 1e-6

// alignFree applies an orthogonal map to each member so that all are as close to their mean as possible: generalised
// Procrustes analysis (Gower 1975). Given the second moments G between members, the mean of the mapped members is Σ
// A_a·M_a/n, and the best map of member m is the orthogonal polar factor of mean·M_mᵀ = Σ A_a·G_am/n. The mean is
// scaled to the members' size.
func alignFree(p *projection, b block, members []int) solution {
	n, dim := len(members), len(b.dims)
	wide, g := n*dim, p.moments(b, members)
	turns, norm := p.procrustes(g, n, dim)
	if turns == nil {
		return average(p, b, members)
	}
	maps, size := make([]*mat.Dense, n), 0.0
	for m := range turns {
		trace := 0.0
		for i := m * dim; i < (m+1)*dim; i++ {
			trace += float64(g[i*wide+i])
		}
		maps[m], size = double(turns[m], dim, dim), size+math.Sqrt(math.Max(0, trace))
	}
	return aligned(maps, size, math.Sqrt(norm))
}

// procrustes returns n orthogonal maps [dim, dim] that bring members with second moments g [n*dim]² closest to each
// other, and the squared norm of the sum of the mapped members; nil if the merge is cancelled.
func (p *projection) procrustes(g []float32, n, dim int) (turns [][]float32, norm float64) {
	wide := n * dim
	turns = make([][]float32, n)
	sums := make([]float32, dim*wide)
	copy(sums, g[:dim*wide]) // start with the first member; the others align with it
	for range rounds {
		if p.stopped() {
			return nil, 0
		}
		pool.For(n, 1, func(lo, hi int) {
			for m := lo; m < hi; m++ {
				turns[m] = columns(sums, wide, m*dim, dim)
				polar(turns[m], dim)
			}
		})
		blas.Gemm(false, false, dim, wide, wide, 1, beside(turns, dim), wide, g, wide, 0, sums, wide)
		sum := 0.0
		for m := range turns {
			sum += product(turns[m], columns(sums, wide, m*dim, dim))
		}
		if sum-norm <= enough*sum {
			return turns, max(sum, 0)
		}
		norm = sum
	}
	return turns, norm
}

// product returns the inner product, in f64.
func product(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		sum += float64(x[i]) * float64(y[i])
	}
	return sum
}

// columns returns columns lo to lo+n of a matrix with rows of wide elements.
func columns(m []float32, wide, lo, n int) []float32 {
	all := make([]float32, 0, len(m)/wide*n)
	for row := 0; row < len(m); row += wide {
		all = append(all, m[row+lo:][:n]...)
	}
	return all
}

// beside concatenates matrices of dim rows horizontally.
func beside(all [][]float32, dim int) []float32 {
	var m []float32
	for row := range dim {
		for _, x := range all {
			cols := len(x) / dim
			m = append(m, x[row*cols:][:cols]...)
		}
	}
	return m
}

// aligned returns the solution that shares the mean of the mapped members. size is the sum of their norms, sum the norm
// of their sum.
func aligned(turns []*mat.Dense, size, sum float64) solution {
	n := float64(len(turns))
	sol := solution{scale: 1}
	if sum > 0 {
		sol.scale = size / sum // scale of the mean: (size/n) / (sum/n)
	}
	for _, a := range turns {
		var in mat.Dense
		in.Scale(sol.scale/n, a)
		sol.in = append(sol.in, &in)
		sol.out = append(sol.out, mat.DenseCopyOf(a.T()))
	}
	return sol
}

// inner returns the sum of the products of two matrices' elements.
func inner(a, b *mat.Dense) float64 {
	sum := 0.0
	x, y := a.RawMatrix(), b.RawMatrix()
	for i := range x.Rows {
		for j := range x.Cols {
			sum += x.Data[i*x.Stride+j] * y.Data[i*y.Stride+j]
		}
	}
	return sum
}

// alignPlane rotates each member's plane by an angle, as alignFree does for all dims.
func alignPlane(p *projection, b block, members []int) solution {
	h := p.hermitian(b, members)
	phases := make([]complex128, len(members))
	for m := range phases {
		phases[m] = phase(h[0][m])
	}
	for range rounds {
		change := 0.0
		next := make([]complex128, len(members))
		for m := range next {
			next[m] = phase(weightedSum(phases, h, m))
			change = max(change, cmplx.Abs(next[m]-phases[m]))
		}
		phases = next
		if change < 1e-12 {
			break
		}
	}
	turns, size, sum := make([]*mat.Dense, len(members)), 0.0, 0.0
	for m, p := range phases {
		turns[m] = complexMap(p)
		size += math.Sqrt(math.Max(0, real(h[m][m])))
		sum += real(weightedSum(phases, h, m) * cmplx.Conj(p))
	}
	return aligned(turns, size, math.Sqrt(math.Max(0, sum)))
}

func weightedSum(phases []complex128, h [][]complex128, m int) complex128 {
	var sum complex128
	for a, p := range phases {
		sum += p * h[a][m]
	}
	return sum
}

func phase(z complex128) complex128 {
	if r := cmplx.Abs(z); r > 0 {
		return z / complex(r, 0)
	}
	return 1
}

// hermitian returns the second moments between members of a plane (i, j), taken as the complex number x_i + 1i·x_j:
// E[z_a·conj(z_b)].
func (p *projection) hermitian(b block, members []int) [][]complex128 {
	i, j := b.dims[0], b.dims[1]
	all := make([][]complex128, len(members))
	for r, h := range members {
		for _, g := range members {
			all[r] = append(all[r], complex(
				p.second(b, h, i, g, i)+p.second(b, h, j, g, j),
				p.second(b, h, j, g, i)-p.second(b, h, i, g, j)))
		}
	}
	return all
}

// complexMap returns multiplication by z as a map of a plane's two rows.
func complexMap(z complex128) *mat.Dense {
	return mat.NewDense(2, 2, []float64{real(z), -imag(z), imag(z), real(z)})
}

// alignSign chooses a sign for each member, where alignFree chooses a map.
func alignSign(p *projection, b block, members []int) solution {
	g := p.traces(b, members)
	signs := make([]float64, len(members))
	for m := range signs {
		signs[m] = math.Copysign(1, g[0][m])
	}
	for flipped, r := true, 0; flipped && r < rounds; r++ {
		flipped = flip(signs, g)
	}
	return signed(b, signs, g)
}

// alignFixed returns the mean, scaled to the members' size.
func alignFixed(p *projection, b block, members []int) solution {
	return signed(b, slices.Repeat([]float64{1}, len(members)), p.traces(b, members))
}

// traces returns the members' inner products.
func (p *projection) traces(b block, members []int) [][]float64 {
	g := make([][]float64, len(members))
	for i, h := range members {
		for _, k := range members {
			trace := 0.0
			for _, d := range b.dims {
				trace += p.second(b, h, d, k, d)
			}
			g[i] = append(g[i], trace)
		}
	}
	return g
}

// signed returns the solution that shares the mean of the members with the given signs.
func signed(b block, signs []float64, g [][]float64) solution {
	turns, size, sum := make([]*mat.Dense, len(signs)), 0.0, 0.0
	for m, sg := range signs {
		turns[m] = scaled(len(b.dims), sg)
		size += math.Sqrt(math.Max(0, g[m][m]))
		for a, other := range signs {
			sum += sg * other * g[a][m]
		}
	}
	return aligned(turns, size, math.Sqrt(math.Max(0, sum)))
}

// flip flips, one after the other, the signs of members that point away from the sum of the others, and reports whether
// it flipped any.
func flip(signs []float64, g [][]float64) (flipped bool) {
	for m := range signs {
		sum := 0.0
		for a, sg := range signs {
			if a != m {
				sum += sg * g[a][m]
			}
		}
		if sum*signs[m] < 0 {
			signs[m], flipped = -signs[m], true
		}
	}
	return flipped
}
