package merge

import (
	"math"
	"math/cmplx"

	"gqa/internal/cpu/blas"

	"gonum.org/v1/gonum/mat"
)

// lowRank finds the shared head that keeps most of what readers see. With R_m the root of a reader's second moment, the
// best approximation of the stacked R_m·M_m by one head's worth of rows is their truncated singular value decomposition
// in the metric of the inputs (Eckart & Young 1936). Its left vectors E are the top eigenvectors of the stack's second
// moment, so that shared = Σ E_mᵀ·R_m·M_m and M_m ≈ R_m⁻¹·E_m·shared. Each row of the shared head is scaled to the size
// of the weights that read it, and then all rows to the size of a member.
func lowRank(p *projection, b block, members []int) solution {
	dim := len(b.dims)
	vectors, values, ok := Top(p.ctx, p.stack(b, members), len(members)*dim, dim)
	if !ok {
		return average(p, b, members)
	}
	balance := p.balance(b, members, values)
	sol := solution{scale: 1}
	for m, h := range members {
		e := vectors.Slice(m*dim, (m+1)*dim, 0, dim)
		var in, out mat.Dense
		in.Mul(e.T(), p.roots[h].root)
		out.Mul(p.roots[h].inverse, e)
		for i, f := range balance {
			scaleRow(&in, i, f)
			scaleColumn(&out, i, inverse(f))
		}
		sol.in, sol.out = append(sol.in, &in), append(sol.out, &out)
	}
	return sol
}

// stack returns the second moment of the stacked R_m·M_m: [members*dim]².
func (p *projection) stack(b block, members []int) []float32 {
	dim := len(b.dims)
	wide, all := len(members)*dim, p.moments(b, members)
	left := make([]float32, len(all))
	for m, h := range members {
		rows := m * dim * wide
		blas.Gemm(false, false, dim, wide, dim, 1, single(p.roots[h].root), dim, all[rows:], wide, 0, left[rows:], wide)
	}
	for m, h := range members {
		blas.Gemm(false, false, wide, dim, dim, 1, left[m*dim:], wide, single(p.roots[h].root), dim, 0, all[m*dim:], wide)
	}
	return all
}

// balance returns factors for the rows of the shared head, whose second moments are values. The fourth root of the
// inverse makes rows and their readers equal in size; a common factor then scales them to the members' mean size. A
// zero row stays zero.
func (p *projection) balance(b block, members []int, values []float64) []float64 {
	factors, sum, size := make([]float64, len(values)), 0.0, 0.0
	for i, v := range values {
		if v > 1e-13*values[len(values)-1] {
			factors[i] = math.Pow(v, -0.25)
			sum += math.Sqrt(v)
		}
	}
	for _, h := range members {
		for _, d := range b.dims {
			size += p.second(b, h, d, h, d)
		}
	}
	if sum > 0 && size > 0 {
		all := math.Sqrt(size / float64(len(members)) / sum)
		for i := range factors {
			factors[i] *= all
		}
	}
	return factors
}

func inverse(f float64) float64 {
	if f == 0 {
		return 0
	}
	return 1 / f
}

func scaleRow(m *mat.Dense, i int, f float64) {
	row := m.RawRowView(i)
	for j := range row {
		row[j] *= f
	}
}

func scaleColumn(m *mat.Dense, j int, f float64) {
	n, _ := m.Dims()
	for i := range n {
		m.Set(i, j, m.At(i, j)*f)
	}
}

// Root returns the symmetric square root of a second moment and its pseudo-inverse.
func Root(m *mat.SymDense) (r, inv *mat.Dense) {
	n := m.SymmetricDim()
	var eig mat.EigenSym
	if !eig.Factorize(m, true) {
		return scaled(n, 1), scaled(n, 1)
	}
	var vectors mat.Dense
	eig.VectorsTo(&vectors)
	values := eig.Values(nil)
	up, down := make([]float64, n), make([]float64, n)
	for i, v := range values {
		if v > 1e-13*values[n-1] {
			up[i] = math.Sqrt(v)
			down[i] = 1 / up[i]
		}
	}
	return fromEigen(&vectors, up), fromEigen(&vectors, down)
}

// fromEigen returns V·diag(d)·Vᵀ.
func fromEigen(v *mat.Dense, d []float64) *mat.Dense {
	var left, r mat.Dense
	left.Mul(v, mat.NewDiagDense(len(d), d))
	r.Mul(&left, v.T())
	return &r
}

// lowRankPlane is lowRank for a rotary plane, where the maps are complex numbers: the first principal component of the
// members' planes, each weighted by the size of its queries there. The loss in the size of the scores is compensated.
func lowRankPlane(p *projection, b block, members []int) solution {
	h, rho := p.weightedPlane(b, members)
	u, top := principal(h)
	total, size := 0.0, 0.0
	for m := range members {
		total += real(h[m][m])
		size += real(h[m][m]) / (rho[m] * rho[m])
	}
	sol := solution{scale: 1}
	if top > 0 {
		sol.scale = math.Sqrt(total / top)
	}
	norm := 1.0 // scale the shared plane, of second moment top, to the size of a member
	if top > 0 && size > 0 {
		norm = math.Sqrt(size / float64(len(members)) / top)
	}
	for m := range members {
		sol.in = append(sol.in, complexMap(cmplx.Conj(u[m])*complex(rho[m]*norm, 0)))
		sol.out = append(sol.out, complexMap(u[m]*complex(sol.scale/(rho[m]*norm), 0)))
	}
	return sol
}

// weightedPlane returns the plane's second moments between members, each times rho, the root mean square of its queries
// there.
func (p *projection) weightedPlane(b block, members []int) (h [][]complex128, rho []float64) {
	h, rho = p.hermitian(b, members), make([]float64, len(members))
	top := 0.0
	for m, k := range members {
		rho[m] = math.Sqrt(math.Max(0, mat.Trace(p.reader(b, k))))
		top = max(top, rho[m])
	}
	for m := range rho {
		rho[m] = max(rho[m], 1e-9*top, 1e-150)
	}
	for a := range h {
		for c := range h {
			h[a][c] *= complex(rho[a]*rho[c], 0)
		}
	}
	return h, rho
}

// RealForm returns the symmetric 2n×2n matrix that corresponds to a Hermitian n×n matrix. It has each eigenvalue twice.
func RealForm(h [][]complex128) *mat.SymDense {
	n := len(h)
	s := mat.NewSymDense(2*n, nil)
	for i := range n {
		for j := range n {
			if j >= i {
				s.SetSym(i, j, real(h[i][j]))
				s.SetSym(n+i, n+j, real(h[i][j]))
			}
			s.SetSym(i, n+j, -imag(h[i][j]))
		}
	}
	return s
}

// principal returns the eigenvector of the largest eigenvalue of a Hermitian matrix, and the eigenvalue.
func principal(h [][]complex128) (u []complex128, value float64) {
	n, s := len(h), RealForm(h)
	u = make([]complex128, n)
	var eig mat.EigenSym
	if !eig.Factorize(s, true) {
		u[0] = 1
		return u, 0
	}
	var vectors mat.Dense
	eig.VectorsTo(&vectors)
	for i := range u {
		u[i] = complex(vectors.At(i, 2*n-1), vectors.At(n+i, 2*n-1))
	}
	return u, max(eig.Values(nil)[2*n-1], 0)
}
