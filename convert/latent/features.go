package latent

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
)

// features returns what a token keeps as linear functions of the input: the latent's rows, then those of the shared planes. The latent
// is the best approximation of values, and of what the shared planes leave of the keys, by that many numbers: their principal components
// in the metric of the inputs and of what reads them (Eckart & Young 1936). All have the variance one. rotary are the shared planes' rows,
// and keys what they leave. ok is false if there are no principal components.
func (s *source) features(shared []plane, rotary, keys merge.Linear) (all merge.Linear, ok bool) {
	stack, mean := s.weighted(keys)
	all = newLinear(s.o.Rank+2*len(shared), stack)
	ok = s.principal(part(all, 0, s.o.Rank), stack, mean)
	for r := range 2 * len(shared) {
		addRow(all, s.o.Rank+r, 1, rotary, r)
	}
	return all, ok
}

// weighted returns keys and values as what reads them weighs them, one above the other, and their means as far as they matter.
func (s *source) weighted(keys merge.Linear) (stack merge.Linear, mean []float64) {
	wide := s.a.KVHeads * s.a.HeadDim
	stack = newLinear(2*wide, s.a.K, s.a.V)
	for g := range s.a.KVHeads {
		first := g * s.a.HeadDim
		weigh(stack, first, s.keyReaders[g], part(keys, first, s.a.HeadDim))
		weigh(stack, wide+first, s.valueReaders[g], part(s.a.V, first, s.a.HeadDim))
	}
	mean = s.m.MeanOf(stack)
	clear(mean[:wide]) // a constant in a key without positions changes no probability
	if s.a.O.Bias != nil {
		clear(mean) // one in a value becomes part of the output's bias
	}
	return stack, mean
}

// weigh adds the root of the readers' moment times the rows of l to the rows of dst from first on.
func weigh(dst merge.Linear, first int, readers *mat.SymDense, l merge.Linear) {
	root, _ := merge.Root(readers)
	n := readers.SymmetricDim()
	apply(dst, first, single32(root), n, n, l)
}

// single32 returns m in f32, row by row.
func single32(m *mat.Dense) []float32 {
	r, c := m.Dims()
	all := make([]float32, 0, r*c)
	for i := range r {
		for _, x := range m.RawRowView(i) {
			all = append(all, float32(x))
		}
	}
	return all
}

// rest returns the best approximation without positions of what the shared planes leave of the keys: [KV heads*headDim] rows.
func (s *source) rest(shared []plane, rotary merge.Linear) merge.Linear {
	rest := newLinear(s.a.KVHeads*s.a.HeadDim, s.a.K, s.a.V)
	for g := range s.a.KVHeads {
		for i, theta := range s.o.InvFreq {
			rows := s.at(member{g, i})
			s.addPlane(rest, rows[0], rows[1], s.distances.turn(theta), s.a.K, rows)
		}
		for _, d := range s.free {
			addRow(rest, g*s.a.HeadDim+d, 1, s.a.K, g*s.a.HeadDim+d)
		}
	}
	for i, p := range shared {
		still := s.distances.turn(p.freq)
		for j, m := range p.members {
			rows := s.at(m)
			s.addPlane(rest, rows[0], rows[1], -p.holds[j]*still, rotary, [2]int{2 * i, 2*i + 1})
		}
	}
	return rest
}

// principal sets dst's rows to the principal components of l's outputs, whose means are given as far as they matter. Components that are
// zero, as far as float32 can tell, stay zero. It reports whether there are any components.
func (s *source) principal(dst, l merge.Linear, mean []float64) bool {
	n, rank := len(l.W)/l.In, len(dst.W)/dst.In
	g := s.moments(l, mean)
	vectors, values, ok := merge.Top(s.ctx, g, n, min(rank, n))
	if !ok {
		return false
	}
	mix, k := make([]float32, rank*n), len(values)
	for c := range k { // the largest comes last
		value := values[k-1-c]
		if value <= 1e-7*values[k-1] {
			break
		}
		for i := range n {
			mix[c*n+i] = float32(vectors.At(i, k-1-c) / math.Sqrt(value))
		}
	}
	apply(dst, 0, mix, n, rank, l)
	return true
}

// moments returns the second moments of l's outputs with the given means: [rows, rows].
func (s *source) moments(l merge.Linear, mean []float64) []float32 {
	n := len(l.W) / l.In
	g := make([]float32, n*n)
	blas.Gemm(false, true, n, n, l.In, 1, s.m.Project(s.ctx, l), l.In, l.W, l.In, 0, g, n)
	for i, x := range mean {
		for j, y := range mean {
			g[i*n+j] += float32(x * y)
		}
	}
	return g
}
