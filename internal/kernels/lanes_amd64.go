package kernels

type (
	scoreTile func(n, steps int, q, k *float32, ldk int, s *float32, ahead *byte, from, stride int)
	weighTile func(n int, p *float32, ldp int, v *float32, ldv int, o *float32, ldo int, ahead *byte, from, stride int)
)

var lanesAVX512 = lanePath{
	width: 16,
	tiles: []laneTile{
		newLaneTile(16, 1, score1AVX512, 1, 64, weigh1x4AVX512),
		newLaneTile(16, 2, score2AVX512, 2, 64, weigh2x4AVX512),
		newLaneTile(16, 4, score4AVX512, 4, 64, weigh4x4AVX512),
		newLaneTile(16, 8, score8AVX512, 8, 32, weigh8x2AVX512),
		newLaneTile(16, 16, score16AVX512, 8, 32, weigh8x2AVX512),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX512(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes) { expLanesAVX512(s, &top[0], &sum[0]) },
}

var lanesAVX2 = lanePath{
	width: 8,
	tiles: []laneTile{
		newLaneTile(8, 1, score1AVX2, 1, 32, weigh1x4AVX2),
		newLaneTile(8, 2, score2AVX2, 2, 32, weigh2x4AVX2),
		newLaneTile(8, 4, score4AVX2, 4, 16, weigh4x2AVX2),
		newLaneTile(8, 8, score8AVX2, 4, 16, weigh4x2AVX2),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX2(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes) { expLanesAVX2(s, &top[0], &sum[0]) },
}

// newLaneTile wraps the assembly, which must not leave the slices.
func newLaneTile(width, rows int, score scoreTile, h, w int, weigh weighTile) laneTile {
	c := width / rows
	return laneTile{
		rows: rows, h: h, w: w,
		score: func(n, d int, q, k []float32, ldk int, s []float32, next lookahead) {
			_, _, _ = q[d*rows-1], k[(n*width-1)*ldk+d-1], s[n*width*rows-1]
			score(n, d/c, &q[0], &k[0], ldk, &s[0], next.base, next.from, next.stride)
		},
		weigh: func(n int, p []float32, ldp int, v []float32, ldv int, o []float32, ldo int, next lookahead) {
			_, _, _ = p[(n-1)*ldp+h-1], v[(n-1)*ldv+w-1], o[(h-1)*ldo+w-1]
			weigh(n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.base, next.from, next.stride)
		},
	}
}
