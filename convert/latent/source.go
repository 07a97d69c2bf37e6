package latent

import (
	"context"
	"math"

	"gonum.org/v1/gonum/mat"

	"gqa/convert/merge"
	"gqa/internal/cpu/blas"
)

// concentration is how much of the square of an error in the scores of single keys is left in the output: the sum of the squares of a
// query's probabilities. Heads of trained decoders have values from 0.04 to 0.8; 0.2 is their middle. Errors of values are correlated
// between the keys that a query attends to, so they are not reduced.
const concentration = 0.2

// source is the attention that is converted, with its statistics.
type source struct {
	ctx       context.Context
	a         *merge.Attention
	m         *merge.Moment
	o         Options
	q         merge.Linear // a's queries, with the factor of rotary embeddings
	planes    [][2]int     // dims of a head
	free      []int        // dims of a head that are not rotated
	distances *distances
	// keyReaders and valueReaders weigh the squared errors of each KV head's keys and values by their effect on the output:
	// [headDim, headDim].
	keyReaders, valueReaders []*mat.SymDense
	keyMean                  []float64
	constant                 []float32 // weights of a number that is nearly one, if the latent gets such a number; zeros if a bias makes it
	keyGram                  []float64 // second moments of all keys, [KV heads*headDim]²
}

func newSource(ctx context.Context, a *merge.Attention, m *merge.Moment, o Options) *source {
	f := merge.Rotary(a.HeadDim, 2*len(o.InvFreq), o.Interleaved)
	s := &source{ctx: ctx, a: a, m: m, o: o, q: a.Q, planes: f.Planes, free: f.Free, distances: newDistances(o.Context)}
	if o.RopeScale != 1 {
		s.scaleQueries()
	}
	s.findReaders()
	s.keyMean = m.MeanOf(a.K)
	s.keyGram = second(s.gram(a.K, a.K), s.keyMean, s.keyMean)
	return s
}

// scaleQueries moves the factor of the cosines and sines of queries and keys to the queries.
func (s *source) scaleQueries() {
	d, factor := s.a.HeadDim, s.o.RopeScale*s.o.RopeScale
	s.q = newLinear(s.a.Heads*d, s.a.Q)
	for r := range s.a.Heads * d {
		addRow(s.q, r, 1, s.a.Q, r)
	}
	for h := range s.a.Heads {
		for _, p := range s.planes {
			scaleRow(s.q, h*d+p[0], factor)
			scaleRow(s.q, h*d+p[1], factor)
		}
	}
}

// findReaders computes the weights of errors. An error of a head's values reaches the output through o. An error ε of a score changes
// the output by ε times the probability times the distance of the key's value from the mean value.
func (s *source) findReaders() {
	a, group := s.a, s.a.Heads/s.a.KVHeads
	queries, outputs := s.m.HeadMoments(s.ctx, s.q, a.HeadDim), a.OutputMoments()
	values, mean := s.m.HeadMoments(s.ctx, a.V, a.HeadDim), s.m.MeanOf(a.V)
	for g := range a.KVHeads {
		k, v := mat.NewSymDense(a.HeadDim, nil), mat.NewSymDense(a.HeadDim, nil)
		for h := g * group; h < (g+1)*group; h++ {
			effect := 0.0
			for i := range a.HeadDim {
				for j := range a.HeadDim {
					effect += outputs[h].At(i, j) * (values[g].At(i, j) - mean[g*a.HeadDim+i]*mean[g*a.HeadDim+j])
				}
			}
			queries[h].ScaleSym(concentration*s.o.Scale*s.o.Scale*math.Max(effect, 0), queries[h])
			k.AddSym(k, queries[h])
			v.AddSym(v, outputs[h])
		}
		s.keyReaders, s.valueReaders = append(s.keyReaders, k), append(s.valueReaders, v)
	}
}

// gram returns the covariance between the outputs of two linear layers of the input: [rows of x, rows of y].
func (s *source) gram(x, y merge.Linear) []float64 {
	n, k := len(x.W)/x.In, len(y.W)/y.In
	g, all := make([]float32, n*k), make([]float64, n*k)
	blas.Gemm(false, true, n, k, x.In, 1, s.m.Project(s.ctx, x), x.In, y.W, y.In, 0, g, k)
	for i, v := range g {
		all[i] = float64(v)
	}
	return all
}

// second adds the products of the means to a covariance, which becomes a second moment.
func second(g, x, y []float64) []float64 {
	for i, a := range x {
		for j, b := range y {
			g[i*len(y)+j] += a * b
		}
	}
	return g
}

// headUnits returns the units of all KV heads' keys.
func (s *source) headUnits(heads int) (all []unit) {
	for g := range heads {
		for i, p := range s.planes {
			all = append(all, unit{g*s.a.HeadDim + p[0], g*s.a.HeadDim + p[1], s.o.InvFreq[i]})
		}
		for _, d := range s.free {
			all = append(all, single(g*s.a.HeadDim+d))
		}
	}
	return all
}
