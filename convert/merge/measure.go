package merge

import (
	"math"

	"gqa/internal/cpu/blas"

	"gonum.org/v1/gonum/mat"
)

// fit measures how well shared heads approximate their members, summed over blocks.
type fit struct {
	dot, own, given float64 // of member and approximation: inner product, squared norms
	kept, total     float64 // second moment in the readers' metric: what the best scale can keep, and the total
	lost            float64 // second moment of the difference
}

func (f *fit) add(g fit) {
	f.dot, f.own, f.given = f.dot+g.dot, f.own+g.own, f.given+g.given
	f.kept, f.total, f.lost = f.kept+g.kept, f.total+g.total, f.lost+g.lost
}

// cosine returns the cosine between members and their approximations.
func (f *fit) cosine() float64 { return f.dot / math.Sqrt(f.own*f.given) }

// measure returns the fit of a solution.
func (p *projection) measure(b block, members []int, sol solution) fit {
	n := len(b.dims)
	wide, g := len(members)*n, p.moments(b, members)
	to, shared := sharedMoments(g, n, sol)
	var f fit
	for m, h := range members {
		var dot, given, all mat.Dense
		dot.Mul(sol.out[m], to[m])
		all.Mul(sol.out[m], shared)
		given.Mul(&all, sol.out[m].T())
		own := double(columns(g[m*n*wide:][:n*wide], wide, m*n, n), n, n)
		reader := mat.DenseCopyOf(p.reader(b, h))
		f.add(compared(&dot, own, &given))
		f.add(weighed(inner(reader, &dot), inner(reader, own), inner(reader, &given)))
	}
	return f
}

// sharedMoments returns the second moments between the shared head and each member, and of the shared head itself, [n,
// n] each. g are the second moments of the members.
func sharedMoments(g []float32, n int, sol solution) (to []*mat.Dense, shared *mat.Dense) {
	ins := make([][]float32, len(sol.in))
	for m := range ins {
		ins[m] = single(sol.in[m])
	}
	wide := len(ins) * n
	toMembers := make([]float32, n*wide)
	blas.Gemm(false, false, n, wide, wide, 1, beside(ins, n), wide, g, wide, 0, toMembers, wide)
	to, shared = make([]*mat.Dense, len(ins)), mat.NewDense(n, n, nil)
	var prod mat.Dense
	for m := range to {
		to[m] = double(columns(toMembers, wide, m*n, n), n, n)
		prod.Mul(to[m], sol.in[m].T())
		shared.Add(shared, &prod)
	}
	return to, shared
}

// compared returns the fit of one member, unweighted; the arguments are second moments.
func compared(dot, own, given *mat.Dense) fit {
	return fit{dot: mat.Trace(dot), own: mat.Trace(own), given: mat.Trace(given)}
}

// weighed returns the fit of one member in its reader's metric.
func weighed(dot, own, given float64) fit {
	f := fit{total: own, lost: own - 2*dot + given}
	if given > 0 {
		f.kept = min(dot*dot/given, own)
	}
	return f
}

// energy returns the part of the members' second moment, in their readers' metric, that a group keeps, summed over all
// blocks.
func (p *projection) energy(m Method, members []int) float64 {
	kept := 0.0
	for _, b := range p.blocks {
		if m == Calibrated && b.kind == free {
			kept += p.lowRankEnergy(b, members)
		} else {
			kept += p.measure(b, members, p.solve(m, b, members)).kept
		}
	}
	return kept
}

// lowRankEnergy returns the energy that lowRank keeps, without computing its vectors.
func (p *projection) lowRankEnergy(b block, members []int) float64 {
	n := len(members) * len(b.dims)
	stack, m := p.stack(b, members), mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			m.SetSym(i, j, float64(stack[i*n+j]))
		}
	}
	var eig mat.EigenSym
	if !eig.Factorize(m, false) {
		return 0
	}
	kept := 0.0
	for _, v := range eig.Values(nil)[n-len(b.dims):] {
		kept += v
	}
	return kept
}

// total returns the heads' whole second moment in their readers' metric.
func (p *projection) total() float64 {
	sum := 0.0
	for _, b := range p.blocks {
		for h, r := range p.readers {
			for _, i := range b.dims {
				for _, j := range b.dims {
					sum += r.At(i, j) * p.second(b, h, i, h, j)
				}
			}
		}
	}
	return sum
}
