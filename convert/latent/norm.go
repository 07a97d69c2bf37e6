package latent

import (
	"math"
	"slices"

	"gqa/convert/merge"
	"gqa/internal/cpu/solve"
)

// constantShare is the square of the constant relative to the other numbers of the latent together. Their sum of squares varies by a
// fraction of itself from token to token, and the norm by that fraction divided by twice the share.
const constantShare = 100

// addConstant adds a constant to the latent, and undoes the mean effect of a norm in what reads it. The other numbers have the variance
// one. With a bias, their means become part of what is read of the constant.
func (s *source) addConstant(l *Attention) {
	old := l.Rank
	size := math.Sqrt(constantShare * float64(old))
	mean := make([]float64, old)
	if s.o.Bias {
		mean = s.m.MeanOf(l.Latent)
	}
	l.Rank++
	latent := merge.Linear{W: append(slices.Clip(l.Latent.W), s.constant...), In: l.Latent.In}
	scaleRow(latent, old, size)
	if s.o.Bias || l.Latent.Bias != nil {
		latent.Bias = make([]float32, l.Rank)
		copy(latent.Bias, l.Latent.Bias)
		for i, x := range mean {
			latent.Bias[i] -= float32(x)
		}
	}
	if s.o.Bias {
		latent.Bias[old] = float32(size)
		if l.KRope.Bias == nil {
			l.KRope.Bias = make([]float32, l.Rope)
		}
	}
	l.Latent = latent
	norm := math.Sqrt((float64(old) + size*size) / float64(l.Rank))
	l.KeyUp, l.ValueUp = widened(l.KeyUp, norm, mean, size), widened(l.ValueUp, norm, mean, size)
}

// leastConstant is the least share of a nearly constant number's second moment that is the square of its mean. One that varies more would
// do more harm than the norm.
const leastConstant = 0.9

// findConstant looks for a number that is nearly one for all inputs, and makes room for it in the latent. Inputs have a mean, so there
// usually is one.
func (s *source) findConstant() {
	row := make([]float32, s.a.K.In)
	if s.o.Bias {
		s.constant, s.o.Rank = row, s.o.Rank-1
		return
	}
	if s.m == nil {
		return
	}
	dim, trace := len(row), 0.0
	moment := make([]float32, dim*dim)
	for i, x := range s.m.Mean {
		for j, y := range s.m.Mean {
			moment[i*dim+j] = s.m.Cov[i*dim+j] + x*y
		}
		trace += float64(moment[i*dim+i])
	}
	w := solve.Symmetric(s.ctx, moment, s.m.Mean, dim, 1e-5*trace/float64(dim))
	held := 0.0
	for i, x := range w {
		held += x * float64(s.m.Mean[i])
	}
	if held < leastConstant {
		return
	}
	for i, x := range w {
		row[i] = float32(x / held)
	}
	s.constant, s.o.Rank = row, s.o.Rank-1
}

// widened returns f·l with another input, of that size, which stands for the means of the others.
func widened(l merge.Linear, f float64, mean []float64, size float64) merge.Linear {
	w := merge.Linear{In: l.In + 1}
	for row := range slices.Chunk(l.W, l.In) {
		sum := 0.0
		for i, x := range row {
			sum += float64(x) * mean[i]
			w.W = append(w.W, x*float32(f))
		}
		w.W = append(w.W, float32(sum*f/size))
	}
	return w
}
