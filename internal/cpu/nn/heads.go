package nn

import (
	"sync"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// HeadProduct is a product of each head with a matrix of its own: y = x·w with x [Rows, Heads, K], w [Heads, K, N] and y [Rows, Heads, N];
// or y = x·wᵀ with w [Heads, N, K] if Trans is true. Row t of a head of X or Y starts at h·Head + t·Row of its Data.
type HeadProduct struct {
	Trans             bool
	Heads, Rows, N, K int
	Y, X              View
	W                 []float32
	Half              []uint16 // instead of W unless Format is F32
	Format            simd.Half
}

// headRows is how many rows of a head a task multiplies. Up to headFew of them the matrix is not packed.
const (
	headRows = 64
	headFew  = 16
)

// MultiplyHeads computes a HeadProduct.
func MultiplyHeads(p HeadProduct) {
	if p.Heads*p.Rows*p.N == 0 {
		return
	}
	j := headJobs.Get().(*headJob)
	j.HeadProduct = p
	pool.Run(p.Heads*pool.CeilDiv(p.Rows, headRows), 1, j)
	j.HeadProduct = HeadProduct{}
	headJobs.Put(j)
}

// MultiplyHeadsRef is the definition of MultiplyHeads, in float64.
func MultiplyHeadsRef(p HeadProduct) {
	for h := range p.Heads {
		w := p.matrix(h, new([]float32))
		for t := range p.Rows {
			for i := range p.N {
				sum := 0.0
				for c := range p.K {
					at := c*p.N + i
					if p.Trans {
						at = i*p.K + c
					}
					sum += float64(p.X.at(0, h, t)[c]) * float64(w[at])
				}
				p.Y.at(0, h, t)[i] = float32(sum)
			}
		}
	}
}

// matrix returns the matrix of a head, in the scratch if it has to be converted.
func (p *HeadProduct) matrix(h int, scratch *[]float32) []float32 {
	size := p.N * p.K
	if p.Format == simd.F32 {
		return p.W[h*size:][:size]
	}
	*scratch = memory.Grow(*scratch, size)
	p.Format.DecodeRows(*scratch, p.Half[h*size:], size, 1, size)
	return *scratch
}

// headJob is one call of MultiplyHeads. A task is some rows of a head.
type headJob struct{ HeadProduct }

// headWork is the scratch of a task.
type headWork struct{ converted, packed []float32 }

var (
	headJobs  = sync.Pool{New: func() any { return new(headJob) }}
	headWorks = sync.Pool{New: func() any { return new(headWork) }}
)

func (j *headJob) Block(lo, hi int) {
	w, parts := headWorks.Get().(*headWork), pool.CeilDiv(j.Rows, headRows)
	for ; lo < hi; lo++ {
		h, first := lo/parts, lo%parts*headRows
		rows := min(headRows, j.Rows-first)
		m, x, y := j.matrix(h, &w.converted), j.X.at(0, h, first), j.Y.at(0, h, first)
		switch {
		case rows > headFew:
			ld := j.N
			if j.Trans {
				ld = j.K
			}
			w.packed = blas.Pack(w.packed, m, ld, j.Trans, j.K, j.N)
			blas.MultiplyPacked(rows, j.N, j.K, x, j.X.Row, 1, w.packed, y, j.Y.Row, false)
		case j.Trans:
			blas.MultiplyNT(rows, j.N, j.K, 1, x, j.X.Row, m, j.K, y, j.Y.Row, false)
		default:
			blas.MultiplyNN(rows, j.N, j.K, x, j.X.Row, 1, m, j.N, y, j.Y.Row, false)
		}
	}
	headWorks.Put(w)
}
