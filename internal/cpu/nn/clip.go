package nn

import "gqa/internal/cpu/pool"

// Clip computes y = min(max(x, -limit), limit). y may alias x.
func Clip(y, x []float32, limit float32) {
	if len(x) <= pool.BlockElements {
		clip(y, x, limit)
		return
	}
	pool.For(len(x), pool.BlockElements, func(lo, hi int) { clip(y[lo:hi], x[lo:hi], limit) })
}

func clip(y, x []float32, limit float32) {
	for i, v := range x {
		y[i] = min(max(v, -limit), limit)
	}
}

// ClipBackward sets dx to dy where Clip left x unchanged, and to 0 elsewhere. dx may alias dy or x.
func ClipBackward(dx, dy, x []float32, limit float32) {
	pool.For(len(x), pool.BlockElements, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g := dy[i]
			if x[i] < -limit || x[i] > limit {
				g = 0
			}
			dx[i] = g
		}
	})
}
