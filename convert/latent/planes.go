package latent

import (
	"cmp"
	"math"
	"math/cmplx"
	"slices"

	"gonum.org/v1/gonum/mat"

	"gqa/convert/merge"
)

// plane is a rotary plane of the shared key: a complex number that is linear in the planes of the heads' keys, its members.
type plane struct {
	freq    float64
	members []member
	share   []complex128 // its value is the sum of these times the members' values; its second moment is one
	holds   []complex128 // the members' best approximations are these times the plane
	gain    float64      // what it keeps beyond what a latent without positions could
}

// member is a rotary plane of one KV head's keys.
type member struct{ head, plane int }

// choosePlanes returns the planes of the shared key. Attention does not see which of the heads' planes of one frequency is which if q is
// changed with them, so each plane is a principal component of the heads' planes of one frequency, or of neighbouring frequencies that
// are taken to be equal: whichever keeps more.
func (s *source) choosePlanes() []plane {
	if s.o.Fixed != nil {
		return s.fixedPlanes(s.o.Fixed)
	}
	var best []plane
	most := math.Inf(-1)
	for fold := 1; fold <= 4; fold *= 2 {
		var all []plane
		for first := 0; first < len(s.planes); first += fold {
			all = append(all, s.components(s.block(first, min(first+fold, len(s.planes))), math.NaN(), 0)...)
		}
		slices.SortStableFunc(all, func(a, b plane) int { return cmp.Compare(b.gain, a.gain) })
		all = all[:s.o.Planes]
		if gain := totalGain(all); gain > most*(1+1e-9) || best == nil {
			best, most = all, gain
		}
	}
	slices.SortStableFunc(best, func(a, b plane) int { return cmp.Compare(b.freq, a.freq) })
	return best
}

func totalGain(planes []plane) (sum float64) {
	for _, p := range planes {
		sum += p.gain
	}
	return sum
}

// fixedPlanes returns one plane for each of the frequencies. The heads' planes are folded into the nearest.
func (s *source) fixedPlanes(freqs []float64) []plane {
	blocks := make([][]member, len(freqs))
	for i, theta := range s.o.InvFreq {
		near, at := -1.0, 0
		for j, f := range freqs {
			if a := cmplx.Abs(s.distances.turn(theta - f)); a > near {
				near, at = a, j
			}
		}
		blocks[at] = append(blocks[at], s.block(i, i+1)...)
	}
	all := make([]plane, len(freqs))
	for j, f := range freqs {
		all[j] = plane{freq: f}
		if blocks[j] != nil {
			all[j] = s.components(blocks[j], f, 1)[0]
		}
	}
	return all
}

// block lists the planes first to last-1 of all heads.
func (s *source) block(first, last int) (all []member) {
	for i := first; i < last; i++ {
		for g := range s.a.KVHeads {
			all = append(all, member{g, i})
		}
	}
	return all
}

// components returns the principal components of the members, weighted by what reads them, as planes of the given frequency; NaN for
// the mean frequency. It returns the first n, or all if n is 0.
func (s *source) components(members []member, freq float64, n int) []plane {
	size, weight := make([]float64, len(members)), make([]float64, len(members)) // root mean squares of the queries there
	mean, total := 0.0, 0.0
	for i, m := range members {
		r, p := s.keyReaders[m.head], s.planes[m.plane]
		size[i] = math.Max(math.Sqrt(math.Max(r.At(p[0], p[0])+r.At(p[1], p[1]), 0)), 1e-150)
		energy := size[i] * size[i] * real(s.between(m, m))
		mean, total = mean+energy*s.o.InvFreq[m.plane], total+energy
	}
	if math.IsNaN(freq) {
		freq = s.o.InvFreq[members[0].plane]
		if members[len(members)-1].plane != members[0].plane && total > 0 {
			freq = mean / total
		}
	}
	for i, m := range members {
		weight[i] = size[i] * cmplx.Abs(s.distances.turn(s.o.InvFreq[m.plane]-freq))
	}
	h := make([][]complex128, len(members))
	for i, x := range members {
		h[i] = make([]complex128, len(members))
		for j, y := range members {
			h[i][j] = s.between(x, y) * complex(weight[i]*weight[j], 0)
		}
	}
	vectors, values := hermitian(h)
	if n == 0 {
		n = len(vectors)
	}
	all := make([]plane, n)
	for c := range all {
		all[c] = s.component(members, freq, vectors[c], values[c], values[0], weight, size)
	}
	return all
}

// component returns the plane of one eigenvector u of the members' weighted second moments. One that holds nothing is zero.
func (s *source) component(members []member, freq float64, u []complex128, value, largest float64, weight, size []float64) plane {
	p := plane{freq: freq, members: members, share: make([]complex128, len(u)), holds: make([]complex128, len(u))}
	if value <= 1e-12*largest {
		return p
	}
	root := math.Sqrt(value)
	for i, m := range members {
		if weight[i] == 0 {
			continue
		}
		theta := s.o.InvFreq[m.plane]
		p.share[i] = cmplx.Conj(u[i]) * complex(weight[i]/root, 0)
		p.holds[i] = u[i] * complex(root/weight[i], 0) * s.distances.turn(theta-freq)
		still := cmplx.Abs(u[i]) * root / weight[i] * size[i] * cmplx.Abs(s.distances.turn(theta))
		p.gain += math.Pow(cmplx.Abs(p.holds[i])*size[i], 2) - still*still
	}
	return p
}

// between returns the mean of x·conj(y) of two members.
func (s *source) between(x, y member) complex128 {
	d, wide := s.a.HeadDim, s.a.KVHeads*s.a.HeadDim
	at := func(i, j int) float64 {
		return s.keyGram[(x.head*d+s.planes[x.plane][i])*wide+y.head*d+s.planes[y.plane][j]]
	}
	return complex(at(0, 0)+at(1, 1), at(1, 0)-at(0, 1))
}

// rows returns the planes' weights, two rows each.
func (s *source) rows(planes []plane) merge.Linear {
	l := newLinear(2*len(planes), s.a.K, s.a.V)
	for i, p := range planes {
		for j, m := range p.members {
			s.addPlane(l, 2*i, 2*i+1, p.share[j], s.a.K, s.at(m))
		}
	}
	return l
}

// at returns the rows of a member in the key projection.
func (s *source) at(m member) [2]int {
	p := s.planes[m.plane]
	return [2]int{m.head*s.a.HeadDim + p[0], m.head*s.a.HeadDim + p[1]}
}

// addPlane adds c times the plane of rows r of l to the plane of rows re and im of dst.
func (s *source) addPlane(dst merge.Linear, re, im int, c complex128, l merge.Linear, r [2]int) {
	addRow(dst, re, real(c), l, r[0])
	addRow(dst, re, -imag(c), l, r[1])
	addRow(dst, im, imag(c), l, r[0])
	addRow(dst, im, real(c), l, r[1])
}

// hermitian returns the eigenvectors of a Hermitian matrix and its eigenvalues, the largest first. Its real form has each
// eigenvalue twice; of the vectors that belong to one, those that depend on others are left out.
func hermitian(h [][]complex128) (vectors [][]complex128, values []float64) {
	n, m := len(h), merge.RealForm(h)
	var eig mat.EigenSym
	var all mat.Dense
	if !eig.Factorize(m, true) {
		return axes(n), make([]float64, n)
	}
	eig.VectorsTo(&all)
	for c := 2*n - 1; c >= 0 && len(vectors) < n; c-- {
		u := make([]complex128, n)
		for i := range u {
			u[i] = complex(all.At(i, c), all.At(n+i, c))
		}
		if independent(u, vectors) {
			vectors, values = append(vectors, u), append(values, math.Max(eig.Values(nil)[c], 0))
		}
	}
	return vectors, values
}

// independent makes u orthogonal to the others and of size one, and reports whether that was possible.
func independent(u []complex128, others [][]complex128) bool {
	for range 2 {
		for _, v := range others {
			var dot complex128
			for i := range u {
				dot += cmplx.Conj(v[i]) * u[i]
			}
			for i := range u {
				u[i] -= dot * v[i]
			}
		}
	}
	size := 0.0
	for _, x := range u {
		size += real(x)*real(x) + imag(x)*imag(x)
	}
	if size < 1e-8 {
		return false
	}
	for i := range u {
		u[i] /= complex(math.Sqrt(size), 0)
	}
	return true
}

// axes returns the unit vectors.
func axes(n int) [][]complex128 {
	all := make([][]complex128, n)
	for i := range all {
		all[i] = make([]complex128, n)
		all[i][i] = 1
	}
	return all
}
