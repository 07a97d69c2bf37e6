package simd

type (
	intsScoreTile     func(n, steps int, q *float32, k *byte, ldk int, s *float32, ahead *byte, from, stride int, scales *float32)
	intsSumValuesTile func(n int, p *float32, ldp int, v *byte, ldv int, o *float32, ldo int, ahead *byte, from, stride int, scales *float32)
)

// scoringInts returns t with the assembly for keys of integers. i4 is nil where there is none. A step takes a number of keys and, of
// I8, of elements.
func (t AttentionTile) scoringInts(keys, elements int, i8, i4 intsScoreTile) AttentionTile {
	t.ScoreInts = func(f Ints, n, d int, q []float32, k []byte, ldk int, scales, s []float32, next Prefetch) {
		_, _, _, _ = q[d*t.Rows-1], k[(n-1)*ldk+f.Bytes(d)-1], s[n*t.Rows-1], scales[n-1]
		tile, steps := i8, d/elements
		if f == I4 {
			tile, steps = i4, d/intsBlock
		}
		tile(n/keys, steps, &q[0], &k[0], ldk, &s[0], next.Base, next.From, next.Stride, &scales[0])
	}
	return t
}

// scoringQuads returns t with the assembly for quads, by formats.
func (t AttentionTile) scoringQuads(tiles [2]intsScoreTile) AttentionTile {
	t.I4Quads = tiles[1] != nil
	t.ScoreQuads = func(f Ints, n, d int, q []float32, k []byte, ldk int, scales, s []float32, next Prefetch) {
		parts, bytes := q[QuadHeader:], f.Bytes(d)
		_, _, _, _ = parts[d*t.Rows/2-1], k[(n-1)*ldk+bytes-1], s[n*t.Rows-1], scales[n-1]
		tiles[f-I8](n/MaxLanes, bytes*t.Rows/64, &parts[0], &k[0], ldk, &s[0], next.Base, next.From, next.Stride, &scales[0])
	}
	return t
}

// weighingInts returns t with the assembly for values of integers.
func (t AttentionTile) weighingInts(i8, i4 intsSumValuesTile) AttentionTile {
	t.I4Converted = i4 == nil
	t.SumValuesInts = func(f Ints, n int, p []float32, ldp int, v []byte, ldv int, scales, o []float32, ldo int, next Prefetch) {
		_, _, _, _ = p[(n-1)*ldp+t.H-1], v[(n-1)*ldv+f.Bytes(t.W)-1], o[(t.H-1)*ldo+t.W-1], scales[n-1]
		tile := i8
		if f == I4 {
			tile = i4
		}
		tile(n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.Base, next.From, next.Stride, &scales[0])
	}
	return t
}
