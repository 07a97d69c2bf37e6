package merge

import (
	"math"
	"math/cmplx"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// rounds bounds the alternation of an alignment; it ends as soon as a round changes nothing.
const rounds = 30

// alignFree turns each member by an orthogonal map so that all are as close to their mean as can be: generalised Procrustes
// (Gower 1975). With the second moments G between members, the mean of the turned ones is Σ A_a·M_a/n, and the best map of
// member m is the orthogonal polar factor of mean·M_mᵀ = Σ A_a·G_am/n. The mean is scaled to its members' size.
func alignFree(s *side, b block, members []int) solution {
	n, dim := len(members), len(b.dims)
	crosses := s.crosses(b, members)
	turns := make([]*mat.Dense, n)
	for m := range turns {
		turns[m] = polar(crosses[0][m])
	}
	for range rounds {
		next, change := make([]*mat.Dense, n), 0.0
		for m := range next {
			next[m] = polar(weighted(turns, crosses, m))
			var d mat.Dense
			d.Sub(next[m], turns[m])
			change = max(change, mat.Norm(&d, 2))
		}
		turns = next
		if change < 1e-9*math.Sqrt(float64(dim)) {
			break
		}
	}
	size := 0.0
	for m := range members {
		size += math.Sqrt(math.Max(0, mat.Trace(crosses[m][m])))
	}
	return aligned(turns, size, math.Sqrt(math.Max(0, norm2(turns, crosses))))
}

// aligned shares the mean of the turned members. size is the sum of their norms, sum the norm of their sum.
func aligned(turns []*mat.Dense, size, sum float64) solution {
	n := float64(len(turns))
	sol := solution{scale: 1}
	if sum > 0 {
		sol.scale = size / sum // of the mean: (size/n) / (sum/n)
	}
	for _, a := range turns {
		var in mat.Dense
		in.Scale(sol.scale/n, a)
		sol.in = append(sol.in, &in)
		sol.out = append(sol.out, mat.DenseCopyOf(a.T()))
	}
	return sol
}

// crosses are the second moments between every two members.
func (s *side) crosses(b block, members []int) [][]*mat.Dense {
	all := make([][]*mat.Dense, len(members))
	for i, h := range members {
		for _, g := range members {
			all[i] = append(all[i], s.cross(b, h, g))
		}
	}
	return all
}

// weighted is Σ maps[a]·G_am.
func weighted(maps []*mat.Dense, crosses [][]*mat.Dense, m int) *mat.Dense {
	n, _ := maps[0].Dims()
	sum := mat.NewDense(n, n, nil)
	var p mat.Dense
	for a := range maps {
		p.Mul(maps[a], crosses[a][m])
		sum.Add(sum, &p)
	}
	return sum
}

// norm2 is the squared norm of Σ maps[m]·member m.
func norm2(maps []*mat.Dense, crosses [][]*mat.Dense) float64 {
	sum := 0.0
	for m := range maps {
		sum += inner(weighted(maps, crosses, m), maps[m])
	}
	return sum
}

// inner is the sum of the products of two matrices' elements.
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

// polar is the orthogonal matrix nearest to m: U·Vᵀ of its singular value decomposition.
func polar(m *mat.Dense) *mat.Dense {
	n, _ := m.Dims()
	var svd mat.SVD
	if !svd.Factorize(m, mat.SVDFull) {
		return scaled(n, 1) // m is not finite: the writer of the result says so
	}
	var u, v, r mat.Dense
	svd.UTo(&u)
	svd.VTo(&v)
	r.Mul(&u, v.T())
	return &r
}

// alignPlane turns each member's plane by an angle, as alignFree turns all dims.
func alignPlane(s *side, b block, members []int) solution {
	h := s.hermitian(b, members)
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

// hermitian is the second moment between members of a plane (i, j) as the complex number x_i + 1i·x_j: E[z_a·conj(z_b)].
func (s *side) hermitian(b block, members []int) [][]complex128 {
	i, j := b.dims[0], b.dims[1]
	all := make([][]complex128, len(members))
	for r, h := range members {
		for _, g := range members {
			all[r] = append(all[r], complex(
				s.second(b, h, i, g, i)+s.second(b, h, j, g, j),
				s.second(b, h, j, g, i)-s.second(b, h, i, g, j)))
		}
	}
	return all
}

// complexMap is multiplication by z of a plane's two rows.
func complexMap(z complex128) *mat.Dense {
	return mat.NewDense(2, 2, []float64{real(z), -imag(z), imag(z), real(z)})
}

// alignSign gives each member a sign, as alignFree a map.
func alignSign(s *side, b block, members []int) solution {
	g := s.traces(b, members)
	signs := make([]float64, len(members))
	for m := range signs {
		signs[m] = math.Copysign(1, g[0][m])
	}
	for flipped, r := true, 0; flipped && r < rounds; r++ {
		flipped = flip(signs, g)
	}
	return signed(b, signs, g)
}

// alignFixed is the mean, as large as its members.
func alignFixed(s *side, b block, members []int) solution {
	return signed(b, slices.Repeat([]float64{1}, len(members)), s.traces(b, members))
}

// traces are the members' inner products.
func (s *side) traces(b block, members []int) [][]float64 {
	g := make([][]float64, len(members))
	for i, h := range members {
		for _, k := range members {
			g[i] = append(g[i], mat.Trace(s.cross(b, h, k)))
		}
	}
	return g
}

// signed shares the mean of the members with those signs.
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

// flip turns the signs that point away from the sum of the others, one after the other, and says whether any did.
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
