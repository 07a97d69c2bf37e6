//go:build amd64 || arm64

package simd

// What wraps the assembly on every architecture.

type (
	// dotsTile is GemmKernels.Dots for a number of rows of its own, halfTile for rows of B in a format of 16 bits.
	dotsTile func(n, k int, a *float32, lda int, b *float32, ldb int, alpha float32, c *float32, ldc int, acc bool)
	halfTile func(n, k int, a *float32, lda int, b *uint16, ldb int, alpha float32, c *float32, ldc int, acc bool)

	scoreTile     func(n, steps int, q, k *float32, ldk int, s *float32, ahead *byte, from, stride int)
	sumValuesTile func(n int, p *float32, ldp int, v *float32, ldv int, o *float32, ldo int, ahead *byte, from, stride int)
	// halfScoreTile and halfSumValuesTile are the same for keys and values of 16 bits.
	halfScoreTile     func(n, steps int, q *float32, k *uint16, ldk int, s *float32, ahead *byte, from, stride int)
	halfSumValuesTile func(n int, p *float32, ldp int, v *uint16, ldv int, o *float32, ldo int, ahead *byte, from, stride int)
	// intsConversion is path.fromInts for one format.
	intsConversion func(rows, n int, dst *float32, src *byte, ld int, scales *float32)
)

// within panics, as an index would, unless the assembly stays inside the slices of a tile.
func within(m, n, k int, a []float32, ars, acs int, b []float32, bs int, c []float32, ldc int) {
	_, _, _ = a[(m-1)*ars+(k-1)*acs], b[(k-1)*bs+n-1], c[(m-1)*ldc+n-1]
}

// widen converts whole registers by f and the rest in Go: not every path has masks for 16 bits.
func widen(f func(n int, dst *float32, src *uint16), rest func([]float32, []uint16), dst []float32, src []uint16) {
	n := len(src) &^ (MaxLanes - 1)
	if n > 0 {
		f(n, &dst[:n][0], &src[0])
	}
	rest(dst[n:len(src)], src[n:])
}

// narrow is widen in the other direction.
func narrow(f func(n int, dst *uint16, src *float32), rest func([]uint16, []float32), dst []uint16, src []float32) {
	n := len(src) &^ (MaxLanes - 1)
	if n > 0 {
		f(n, &dst[:n][0], &src[0])
	}
	rest(dst[n:len(src)], src[n:])
}

// newAttentionTile returns t with the assembly, whose bounds it checks. A step of score takes a number of keys and of elements.
func newAttentionTile(t AttentionTile, keys, elements int, score scoreTile, sumValues sumValuesTile) AttentionTile {
	t.SumValuesStep = min(MaxLanes, t.W*t.H/t.Rows)
	t.Score = func(n, d int, q, k []float32, ldk int, s []float32, next Prefetch) {
		_, _, _ = q[d*t.Rows-1], k[(n-1)*ldk+d-1], s[n*t.Rows-1]
		score(n/keys, d/elements, &q[0], &k[0], ldk, &s[0], next.Base, next.From, next.Stride)
	}
	t.SumValues = func(n int, p []float32, ldp int, v []float32, ldv int, o []float32, ldo int, next Prefetch) {
		_, _, _ = p[(n-1)*ldp+t.H-1], v[(n-1)*ldv+t.W-1], o[(t.H-1)*ldo+t.W-1]
		sumValues(n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.Base, next.From, next.Stride)
	}
	return t
}

// fromIntsBy returns path.fromInts by assembly.
func fromIntsBy(i8, i4 intsConversion) func(f Ints, dst []float32, src []byte, lds int, scales []float32, w int) {
	return func(f Ints, dst []float32, src []byte, lds int, scales []float32, w int) {
		rows := len(scales)
		_, _ = dst[rows*w-1], src[(rows-1)*lds+f.Bytes(w)-1]
		convert := i8
		if f == I4 {
			convert = i4
		}
		convert(rows, w, &dst[0], &src[0], lds, &scales[0])
	}
}
