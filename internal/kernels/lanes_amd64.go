package kernels

type (
	scoreTile func(n, steps int, q, k *float32, ldk int, s *float32, ahead *byte, from, stride int)
	weighTile func(n int, p *float32, ldp int, v *float32, ldv int, o *float32, ldo int, ahead *byte, from, stride int)
)

var lanesAVX512 = lanePath{
	width: 16,
	tiles: []laneTile{
		newLaneTile(16, 1, 16, score1AVX512, 1, 64, weigh1AVX512),
		newLaneTile(16, 2, 16, score2AVX512, 2, 64, weigh2AVX512),
		newLaneTile(16, 4, 16, score4AVX512, 4, 64, weigh4AVX512),
		newLaneTile(16, 8, 8, score8AVX512, 8, 32, weigh8AVX512),
		newLaneTile(16, 16, 8, score16AVX512, 8, 32, weigh16AVX512),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX512(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, next lookahead) {
		expLanesAVX512(s, &top[0], &sum[0], next.base, next.from, next.stride)
	},
}

var lanesAVX2 = lanePath{
	width: 8,
	tiles: []laneTile{
		newLaneTile(8, 1, 8, score1AVX2, 1, 32, weigh1AVX2),
		newLaneTile(8, 2, 8, score2AVX2, 2, 32, weigh2AVX2),
		newLaneTile(8, 4, 4, score4AVX2, 4, 16, weigh4AVX2),
		newLaneTile(8, 8, 4, score8AVX2, 4, 16, weigh8AVX2),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX2(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, next lookahead) {
		expLanesAVX2(s, &top[0], &sum[0], next.base, next.from, next.stride)
	},
}

// newLaneTile wraps the assembly, which must not leave the slices. A score tile has so many keys, as many registers of
// sums as the path has lanes.
func newLaneTile(width, rows, keys int, score scoreTile, h, w int, weigh weighTile) laneTile {
	c := width / keys * width / rows
	return laneTile{
		rows: rows, c: c, h: h, w: w, scoreStep: min(maxLanes, keys*c), weighStep: min(maxLanes, w*h/rows),
		score: func(n, d int, q, k []float32, ldk int, s []float32, next lookahead) {
			_, _, _ = q[d*rows-1], k[(n-1)*ldk+d-1], s[n*rows-1]
			score(n/keys, d/c, &q[0], &k[0], ldk, &s[0], next.base, next.from, next.stride)
		},
		weigh: func(n int, p []float32, ldp int, v []float32, ldv int, o []float32, ldo int, next lookahead) {
			_, _, _ = p[(n-1)*ldp+h-1], v[(n-1)*ldv+w-1], o[(h-1)*ldo+w-1]
			weigh(n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.base, next.from, next.stride)
		},
	}
}
