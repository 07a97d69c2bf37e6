package kernels

import "sync"

// What is wide sums in float64 and rounds its results alone, to the same bits on every path. It is for where precision is worth
// more than speed.

// GemmNTF64 is Y[m,n] = X[m,k]·W[n,k]ᵀ, each sum in float64. Rows lie without gaps.
func GemmNTF64(m, n, k int, x, w, y []float32) {
	g := wideProducts.Get().(*wideProduct)
	g.m, g.n, g.k, g.w, g.y = m, n, k, w, y
	g.x = toFloat64(g.x, x[:m*k])
	run(n, roundUp(grainFor(m*k), wideRows), g)
	g.w, g.y = nil, nil
	wideProducts.Put(g)
}

const wideRows = 4 // that a row is multiplied with at a time

type wideProduct struct {
	m, n, k int
	x       []float64
	w, y    []float32
}

// wideWork is the scratch of a task: rows of W and sums; or a query, keys [keys,dim], values [dim,keys], scores, sums of values,
// and rows of K or V from a format of 16 bits.
type wideWork struct {
	w, q, k, v, s, o []float64
	converted        []float32
}

var (
	wideProducts = sync.Pool{New: func() any { return new(wideProduct) }}
	wideWorks    = sync.Pool{New: func() any { return new(wideWork) }}
)

func (g *wideProduct) block(lo, hi int) {
	work := wideWorks.Get().(*wideWork)
	for ; lo < hi; lo += wideRows {
		n := min(wideRows, hi-lo)
		work.w = toFloat64(work.w, g.w[lo*g.k:][:n*g.k])
		work.o = grown(work.o, wideRows)
		for i := range g.m {
			dotsF64(work.o[:n], g.x[i*g.k:][:g.k], work.w, g.k)
			toFloat32(g.y[i*g.n+lo:], work.o[:n])
		}
	}
	wideWorks.Put(work)
}

// dotsF64 is y[j] = Σ_p x[p]·w[j·ldw+p].
func dotsF64(y, x, w []float64, ldw int) {
	k, j := len(x), 0
	for ; j+wideRows <= len(y); j += wideRows {
		w0, w1, w2, w3 := w[j*ldw:][:k], w[(j+1)*ldw:][:k], w[(j+2)*ldw:][:k], w[(j+3)*ldw:][:k]
		var s0, s1, s2, s3 float64
		for p, v := range x {
			s0 += v * w0[p]
			s1 += v * w1[p]
			s2 += v * w2[p]
			s3 += v * w3[p]
		}
		y[j], y[j+1], y[j+2], y[j+3] = s0, s1, s2, s3
	}
	for ; j < len(y); j++ {
		row, sum := w[j*ldw:][:k], 0.0
		for p, v := range x {
			sum += v * row[p]
		}
		y[j] = sum
	}
}

// toFloat64 is x in float64, in dst if that is large enough.
func toFloat64(dst []float64, x []float32) []float64 {
	dst = grown(dst, len(x))
	for i, v := range x {
		dst[i] = float64(v)
	}
	return dst
}

// toFloat32 rounds x to dst.
func toFloat32(dst []float32, x []float64) {
	for i, v := range x {
		dst[i] = float32(v)
	}
}
