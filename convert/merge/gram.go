package merge

import (
	"context"

	"gonum.org/v1/gonum/mat"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/pool"
)

// Moment is the mean [dim] and covariance [dim, dim] of a projection's inputs. A nil Moment stands for mean zero and
// the identity: the inputs are unknown, and the weights themselves are compared.
type Moment struct{ Mean, Cov []float32 }

// projectRows is the number of rows computed between two checks of the context.
const projectRows = 1024

// Project returns W·Cov, or a copy of W without a moment. It stops early if ctx is done.
func (m *Moment) Project(ctx context.Context, l Linear) []float32 {
	out := len(l.W) / l.In
	p := make([]float32, len(l.W))
	if m == nil {
		copy(p, l.W)
		return p
	}
	for row := 0; row < out && ctx.Err() == nil; row += projectRows {
		n, at := min(projectRows, out-row), row*l.In
		blas.Gemm(false, false, n, l.In, l.In, 1, l.W[at:], l.In, m.Cov, l.In, 0, p[at:], l.In)
	}
	return p
}

// MeanOf returns the projection's mean output, bias included: [out].
func (m *Moment) MeanOf(l Linear) []float64 {
	mean := make([]float64, len(l.W)/l.In)
	for i := range mean {
		if m != nil {
			row := l.W[i*l.In:][:l.In]
			for j, x := range row {
				mean[i] += float64(x) * float64(m.Mean[j])
			}
		}
		if l.Bias != nil {
			mean[i] += float64(l.Bias[i])
		}
	}
	return mean
}

// gram returns the covariance of the projection's outputs, [out, out], between heads of size rows that are in the same
// part.
func (m *Moment) gram(ctx context.Context, l Linear, size int, parts [][]int) []float32 {
	out := len(l.W) / l.In
	g, p := make([]float32, out*out), m.Project(ctx, l)
	var pairs [][2]int
	for _, members := range parts {
		for i, h := range members {
			for _, other := range members[i:] {
				pairs = append(pairs, [2]int{h, other})
			}
		}
	}
	pool.For(len(pairs), 1, func(lo, hi int) {
		for _, pair := range pairs[lo:hi] {
			if ctx.Err() != nil {
				return
			}
			r, c := pair[0]*size, pair[1]*size
			blas.Gemm(false, true, size, size, l.In, 1, p[r*l.In:], l.In, l.W[c*l.In:], l.In, 0, g[r*out+c:], out)
			for i := range size {
				for j := range size {
					g[(c+j)*out+r+i] = g[(r+i)*out+c+j]
				}
			}
		}
	})
	return g
}

// HeadMoments returns the second moments of each head's outputs, [size, size], for heads of size rows.
func (m *Moment) HeadMoments(ctx context.Context, l Linear, size int) []*mat.SymDense {
	p, mean := m.Project(ctx, l), m.MeanOf(l)
	moments := make([]*mat.SymDense, len(mean)/size)
	pool.For(len(moments), 1, func(lo, hi int) {
		g := make([]float32, size*size)
		for h := lo; h < hi; h++ {
			blas.Gemm(false, true, size, size, l.In, 1, p[h*size*l.In:], l.In, l.rows(h, size), l.In, 0, g, size)
			moments[h] = mat.NewSymDense(size, nil)
			for i := range size {
				for j := i; j < size; j++ {
					moments[h].SetSym(i, j, float64(g[i*size+j])+mean[h*size+i]*mean[h*size+j])
				}
			}
		}
	})
	return moments
}

// queryReaders returns, for each KV head, the second moment of the queries that read it.
func (a *Attention) queryReaders(ctx context.Context, m *Moment) []*mat.SymDense {
	return sumReaders(m.HeadMoments(ctx, a.Q, a.HeadDim), a.groupSize())
}

// outputReaders returns, for each KV head, OᵀO over the columns of the query heads that read it.
func (a *Attention) outputReaders() []*mat.SymDense {
	return sumReaders(a.OutputMoments(), a.groupSize())
}

// OutputMoments returns OᵀO over the columns of each query head: [headDim, headDim].
func (a *Attention) OutputMoments() []*mat.SymDense {
	size, width := a.HeadDim, a.O.In
	moments := make([]*mat.SymDense, a.Heads)
	pool.For(a.Heads, 1, func(lo, hi int) {
		g := make([]float32, size*size)
		for h := lo; h < hi; h++ {
			o := a.O.W[h*size:]
			blas.Gemm(true, false, size, size, len(a.O.W)/width, 1, o, width, o, width, 0, g, size)
			moments[h] = mat.NewSymDense(size, nil)
			for i := range size {
				for j := i; j < size; j++ {
					moments[h].SetSym(i, j, float64(g[i*size+j]))
				}
			}
		}
	})
	return moments
}

// sumReaders sums the moments of the query heads that read the same KV head.
func sumReaders(moments []*mat.SymDense, group int) []*mat.SymDense {
	var sums []*mat.SymDense
	for h, m := range moments {
		if h%group == 0 {
			sums = append(sums, m)
		} else {
			sums[h/group].AddSym(sums[h/group], m)
		}
	}
	return sums
}
