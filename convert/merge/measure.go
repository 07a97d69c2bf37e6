package merge

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"gqa/internal/cpu/blas"
)

// fit is how well shared heads stand for their members, added up over blocks.
type fit struct {
	dot, own, given float64 // of member and what stands for it: inner product, squared norms
	kept, total     float64 // second moment in the readers' metric: what can be kept by the best scale, and what there was
	lost            float64 // that of the difference
}

func (f *fit) add(g fit) {
	f.dot, f.own, f.given = f.dot+g.dot, f.own+g.own, f.given+g.given
	f.kept, f.total, f.lost = f.kept+g.kept, f.total+g.total, f.lost+g.lost
}

// cosine is that of members and what stands for them.
func (f *fit) cosine() float64 { return f.dot / math.Sqrt(f.own*f.given) }

// measure is the fit of a solution.
func (s *side) measure(b block, members []int, sol solution) fit {
	n := len(b.dims)
	wide, g := len(members)*n, s.moments(b, members)
	ins := make([][]float32, len(members))
	for m := range ins {
		ins[m] = single(sol.in[m])
	}
	toMembers := make([]float32, n*wide) // second moment of shared and members
	blas.Gemm(false, false, n, wide, wide, 1, beside(ins, n), wide, g, wide, 0, toMembers, wide)
	shared := mat.NewDense(n, n, nil)
	to := make([]*mat.Dense, len(members))
	var p mat.Dense
	for m := range members {
		to[m] = double(columns(toMembers, wide, m*n, n), n, n)
		p.Mul(to[m], sol.in[m].T())
		shared.Add(shared, &p)
	}
	var f fit
	for m, h := range members {
		var dot, given, all mat.Dense
		dot.Mul(sol.out[m], to[m])
		all.Mul(sol.out[m], shared)
		given.Mul(&all, sol.out[m].T())
		own := double(columns(g[m*n*wide:][:n*wide], wide, m*n, n), n, n)
		reader := mat.DenseCopyOf(s.reader(b, h))
		f.add(compared(&dot, own, &given))
		f.add(weighed(inner(reader, &dot), inner(reader, own), inner(reader, &given)))
	}
	return f
}

// compared is the fit of one member, unweighted; the arguments are second moments.
func compared(dot, own, given *mat.Dense) fit {
	return fit{dot: mat.Trace(dot), own: mat.Trace(own), given: mat.Trace(given)}
}

// weighed is the fit of one member in its reader's metric.
func weighed(dot, own, given float64) fit {
	f := fit{total: own, lost: own - 2*dot + given}
	if given > 0 {
		f.kept = min(dot*dot/given, own)
	}
	return f
}

// energy is what of the members' second moment, in their readers' metric, a group keeps: over all blocks.
func (s *side) energy(m Method, members []int) float64 {
	kept := 0.0
	for _, b := range s.blocks {
		if m == Calibrated && b.kind == free {
			kept += s.lowRankEnergy(b, members)
		} else {
			kept += s.measure(b, members, s.solve(m, b, members)).kept
		}
	}
	return kept
}

// lowRankEnergy is what lowRank keeps, without its vectors.
func (s *side) lowRankEnergy(b block, members []int) float64 {
	n := len(members) * len(b.dims)
	stack, m := s.stack(b, members), mat.NewSymDense(n, nil)
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

// total is the heads' whole second moment in their readers' metric.
func (s *side) total() float64 {
	sum := 0.0
	for _, b := range s.blocks {
		for h, r := range s.readers {
			for _, i := range b.dims {
				for _, j := range b.dims {
					sum += r.At(i, j) * s.second(b, h, i, h, j)
				}
			}
		}
	}
	return sum
}
