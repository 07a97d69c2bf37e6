//go:build amd64 || arm64

package kernels

// What every architecture with assembly wraps it in.

type (
	// dotsTile is path.dots for a number of rows of its own, halfTile for rows of B in a format of 16 bits.
	dotsTile func(n, k int, a *float32, lda int, b *float32, ldb int, alpha float32, c *float32, ldc int, acc bool)
	halfTile func(n, k int, a *float32, lda int, b *uint16, ldb int, alpha float32, c *float32, ldc int, acc bool)

	scoreTile     func(n, steps int, q, k *float32, ldk int, s *float32, ahead *byte, from, stride int)
	sumValuesTile func(n int, p *float32, ldp int, v *float32, ldv int, o *float32, ldo int, ahead *byte, from, stride int)
	// halfScoreTile and halfSumValuesTile are the same for keys and values of 16 bits.
	halfScoreTile     func(n, steps int, q *float32, k *uint16, ldk int, s *float32, ahead *byte, from, stride int)
	halfSumValuesTile func(n int, p *float32, ldp int, v *uint16, ldv int, o *float32, ldo int, ahead *byte, from, stride int)
)

// within panics, as an index would, unless the assembly stays inside the slices of a tile.
func within(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int) {
	_, _, _ = a[(m-1)*ars+(k-1)*acs], b[(k-1)*bs+n-1], c[(m-1)*ldc+n-1]
}

// widen converts whole registers by f, the rest in Go: not every path has masks for 16 bits.
func widen(f func(n int, dst *float32, src *uint16), rest func([]float32, []uint16), dst []float32, src []uint16) {
	n := len(src) &^ (maxLanes - 1)
	if n > 0 {
		f(n, &dst[:n][0], &src[0])
	}
	rest(dst[n:len(src)], src[n:])
}

// narrow is widen the other way.
func narrow(f func(n int, dst *uint16, src *float32), rest func([]uint16, []float32), dst []uint16, src []float32) {
	n := len(src) &^ (maxLanes - 1)
	if n > 0 {
		f(n, &dst[:n][0], &src[0])
	}
	rest(dst[n:len(src)], src[n:])
}

// newLaneTile gives t the assembly, which must not leave the slices. A step of score is of so many keys and elements.
func newLaneTile(t laneTile, keys, elements int, score scoreTile, sumValues sumValuesTile) laneTile {
	t.sumValuesStep = min(maxLanes, t.w*t.h/t.rows)
	t.score = func(n, d int, q, k []float32, ldk int, s []float32, next lookahead) {
		_, _, _ = q[d*t.rows-1], k[(n-1)*ldk+d-1], s[n*t.rows-1]
		score(n/keys, d/elements, &q[0], &k[0], ldk, &s[0], next.base, next.from, next.stride)
	}
	t.sumValues = func(n int, p []float32, ldp int, v []float32, ldv int, o []float32, ldo int, next lookahead) {
		_, _, _ = p[(n-1)*ldp+t.h-1], v[(n-1)*ldv+t.w-1], o[(t.h-1)*ldo+t.w-1]
		sumValues(n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.base, next.from, next.stride)
	}
	return t
}
