package latent

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"gqa/convert/merge"
	"gqa/internal/cpu/solve"
)

// ridge is added to the features' second moments, relative to their mean.
const ridge = 1e-7

// decodeKeys returns the best combinations of the features for the rotated keys, [features, KV heads*headDim], over all distances, and
// the relative squared error that remains. It returns nil if there are none.
func (s *source) decodeKeys(features merge.Linear, shared []plane) (keys []float32, lost float64) {
	var units []unit
	for r := range s.o.Rank {
		units = append(units, single(r))
	}
	for i, p := range shared {
		units = append(units, unit{s.o.Rank + 2*i, s.o.Rank + 2*i + 1, p.freq})
	}
	n, wide, heads := len(features.W)/features.In, s.a.KVHeads*s.a.HeadDim, s.headUnits(s.a.KVHeads)
	mean, keyMean := s.m.MeanOf(features), append([]float64(nil), s.keyMean...)
	own := second(s.gram(features, features), mean, mean)
	cross := second(s.gram(features, s.a.K), mean, keyMean)
	s.distances.average(own, n, units, units)
	s.distances.average(cross, wide, units, heads)
	s.distances.averageOf(mean, units)
	s.distances.averageOf(keyMean, heads)
	remove(own, mean, mean) // a constant changes no probability
	remove(cross, mean, keyMean)
	keys = s.leastSquares(own, cross, n)
	return keys, s.lost(keys, cross, n, s.keyReaders, s.headMoments(keyMean))
}

// headMoments returns the second moments of each head's rotated keys, without their mean over inputs and distances.
func (s *source) headMoments(mean []float64) []*mat.Dense {
	d, wide := s.a.HeadDim, s.a.KVHeads*s.a.HeadDim
	units, all := s.headUnits(1), make([]*mat.Dense, s.a.KVHeads)
	for g := range all {
		m := make([]float64, 0, d*d)
		for i := range d {
			m = append(m, s.keyGram[(g*d+i)*wide+g*d:][:d]...)
		}
		s.distances.average(m, d, units, units)
		remove(m, mean[g*d:][:d], mean[g*d:][:d])
		all[g] = mat.NewDense(d, d, m)
	}
	return all
}

// decodeValues returns the best combinations of the latent for the values, [rank, KV heads*headDim], and the relative squared error
// that remains. It returns nil if there are none.
func (s *source) decodeValues(features merge.Linear) (values []float32, lost float64) {
	latent := part(features, 0, s.o.Rank)
	mean, valueMean := s.m.MeanOf(latent), s.m.MeanOf(s.a.V)
	own := second(s.gram(latent, latent), mean, mean)
	cross := second(s.gram(latent, s.a.V), mean, valueMean)
	values = s.leastSquares(own, cross, s.o.Rank)
	moments := make([]*mat.Dense, s.a.KVHeads)
	for g, m := range s.m.HeadMoments(s.ctx, s.a.V, s.a.HeadDim) {
		moments[g] = mat.DenseCopyOf(m)
	}
	return values, s.lost(values, cross, s.o.Rank, s.valueReaders, moments)
}

// remove is the inverse of second.
func remove(g, x, y []float64) {
	for i, a := range x {
		for j, b := range y {
			g[i*len(y)+j] -= a * b
		}
	}
}

// leastSquares returns the X [n, KV heads*headDim] with own·X = cross, nil if there is none.
func (s *source) leastSquares(own, cross []float64, n int) []float32 {
	wide := s.a.KVHeads * s.a.HeadDim
	square, right, trace := make([]float32, n*n), make([]float32, len(cross)), 0.0
	for i, v := range own {
		square[i] = float32(v)
	}
	for i := range n {
		trace += own[i*n+i]
		for j := range wide {
			right[j*n+i] = float32(cross[i*wide+j])
		}
	}
	x := solve.Symmetric(s.ctx, square, right, n, math.Max(ridge*trace/float64(n), 1e-30))
	if x == nil {
		return nil
	}
	all := make([]float32, len(x))
	for i := range n {
		for j := range wide {
			all[i*wide+j] = float32(x[j*n+i])
		}
	}
	return all
}

// lost returns the relative squared error of x as the solution of leastSquares, in the metric of what reads the heads, whose second
// moments are given.
func (s *source) lost(x []float32, cross []float64, n int, readers []*mat.SymDense, moments []*mat.Dense) float64 {
	d, wide := s.a.HeadDim, s.a.KVHeads*s.a.HeadDim
	kept, total := 0.0, 0.0
	for g, r := range readers {
		for i := range d {
			for j := range d {
				sum := 0.0
				if x != nil && r.At(i, j) != 0 {
					for k := range n {
						sum += float64(x[k*wide+g*d+i]) * cross[k*wide+g*d+j]
					}
				}
				kept, total = kept+r.At(i, j)*sum, total+r.At(i, j)*moments[g].At(i, j)
			}
		}
	}
	if !(total > 0) {
		return 0
	}
	return math.Max(0, 1-kept/total)
}
