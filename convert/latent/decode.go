package latent

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"gqa/convert/merge"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/solve"
)

// Ridges are added to the features' second moments, relative to their mean. Rotary features of low frequencies are nearly functions of
// the latent, so combinations of both are kept near the direct ones.
const (
	ridge     = 1e-7
	keyRidge  = 1e-5
	mostRidge = 1e-2
)

// directKeys returns combinations of the features for the rotated keys, [features, KV heads*headDim]: what the shared planes hold of
// the heads' planes, and the latent's best approximation of the rest. They are exact if there is room for all planes.
func (s *source) directKeys(features, rest merge.Linear, shared []plane) []float32 {
	latent, wide := part(features, 0, s.o.Rank), s.a.KVHeads*s.a.HeadDim
	keys := s.leastSquares(s.gram(latent, latent), s.gram(latent, rest), s.o.Rank, ridge)
	if keys == nil {
		return nil
	}
	keys = append(keys, make([]float32, 2*len(shared)*wide)...)
	for i, p := range shared {
		re, im := keys[(s.o.Rank+2*i)*wide:], keys[(s.o.Rank+2*i+1)*wide:]
		for j, m := range p.members {
			r := s.at(m)
			hr, hi := float32(real(p.holds[j])), float32(imag(p.holds[j]))
			re[r[0]] += hr
			im[r[0]] -= hi
			re[r[1]] += hi
			im[r[1]] += hr
		}
	}
	return keys
}

// decodeKeys returns the best combinations of the features for the rotated keys, [features, KV heads*headDim], over all distances, and
// the relative squared error that remains. It returns nil if there are none.
func (s *source) decodeKeys(features, rest merge.Linear, shared []plane) (keys []float32, lost float64) {
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
	if keys = s.directKeys(features, rest, shared); keys == nil {
		return nil, 0
	}
	if s.o.Fixed == nil && len(shared) == len(s.planes)*s.a.KVHeads {
		return keys, 0
	}
	change := s.leastSquares(own, less(cross, own, keys, n), n, keyRidge)
	if change == nil {
		return nil, 0
	}
	for i, x := range change {
		keys[i] += x
	}
	return keys, s.lost(keys, own, cross, n, s.keyReaders, s.headMoments(keyMean))
}

// less returns cross - own·x: what least squares have left to do.
func less(cross, own []float64, x []float32, n int) []float64 {
	wide := len(cross) / n
	all := make([]float64, len(cross))
	copy(all, cross)
	pool.For(n, 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := all[i*wide:][:wide]
			for k := range n {
				f := own[i*n+k]
				for j, v := range x[k*wide:][:wide] {
					row[j] -= f * float64(v)
				}
			}
		}
	})
	return all
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
// that remains. It returns nil if there are none. If o has a bias, rest is what the values' means then lack, which o's bias makes up for
// [KV heads*headDim].
func (s *source) decodeValues(features merge.Linear) (values []float32, rest []float64, lost float64) {
	latent, d := part(features, 0, s.o.Rank), s.a.HeadDim
	mean, valueMean := s.m.MeanOf(latent), s.m.MeanOf(s.a.V)
	own, cross := s.gram(latent, latent), s.gram(latent, s.a.V)
	free := s.a.O.Bias != nil
	if !free {
		own, cross = second(own, mean, mean), second(cross, mean, valueMean)
	}
	if values = s.leastSquares(own, cross, s.o.Rank, ridge); values == nil {
		return nil, nil, 0
	}
	moments := make([]*mat.Dense, s.a.KVHeads)
	for g, m := range s.m.HeadMoments(s.ctx, s.a.V, d) {
		if moments[g] = mat.DenseCopyOf(m); free {
			remove(moments[g].RawMatrix().Data, valueMean[g*d:][:d], valueMean[g*d:][:d])
		}
	}
	if free {
		rest = valueMean
		for i, x := range values {
			rest[i%len(rest)] -= float64(x) * mean[i/len(rest)]
		}
	}
	return values, rest, s.lost(values, own, cross, s.o.Rank, s.valueReaders, moments)
}

// remove is the inverse of second.
func remove(g, x, y []float64) {
	for i, a := range x {
		for j, b := range y {
			g[i*len(y)+j] -= a * b
		}
	}
}

// leastSquares returns the X with own·X = cross, for own [n, n] with a ridge relative to its mean, or with the least of its tenfolds that
// makes own positive in spite of rounding; nil if there is none.
func (s *source) leastSquares(own, cross []float64, n int, ridge float64) []float32 {
	wide := len(cross) / n
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
	var x []float64
	for ; x == nil; ridge *= 10 {
		if ridge > mostRidge || s.ctx.Err() != nil {
			return nil
		}
		x = solve.Symmetric(s.ctx, square, right, n, math.Max(ridge*trace/float64(n), 1e-30))
	}
	all := make([]float32, len(x))
	for i := range n {
		for j := range wide {
			all[i*wide+j] = float32(x[j*n+i])
		}
	}
	return all
}

// lost returns the relative squared error of combinations x of the features, in the metric of what reads the heads, whose second moments
// are given. With y = own·x it is that of cross and moments: moments - 2·xᵀ·cross + xᵀ·y.
func (s *source) lost(x []float32, own, cross []float64, n int, readers []*mat.SymDense, moments []*mat.Dense) float64 {
	d, wide := s.a.HeadDim, s.a.KVHeads*s.a.HeadDim
	left := less(cross, own, x, n)
	kept, total := 0.0, 0.0
	for g, r := range readers {
		for i := range d {
			for j := range d {
				sum := 0.0
				for k := range n {
					sum += float64(x[k*wide+g*d+i]) * (cross[k*wide+g*d+j] + left[k*wide+g*d+j])
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
