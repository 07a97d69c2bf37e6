package kernels

type (
	scoreTile func(n, steps int, q, k *float32, ldk int, s *float32, ahead *byte, from, stride int)
	weighTile func(n int, p *float32, ldp int, v *float32, ldv int, o *float32, ldo int, ahead *byte, from, stride int)
)

// lanesNEON has the lanes of four registers; with four rows or more they are those of the queries, and c is 1.
var lanesNEON = lanePath{
	width: 16,
	tiles: []laneTile{
		newLaneTile(1, 4, 16, score1NEON, 1, 32, weigh1NEON),
		newLaneTile(2, 4, 8, score2NEON, 2, 32, weigh2NEON),
		newLaneTile(4, 1, 16, score4NEON, 4, 16, weigh4NEON),
		newLaneTile(8, 1, 8, score8NEON, 8, 8, weigh8NEON),
		newLaneTile(16, 1, 4, score16NEON, 8, 8, weigh8NEON),
	},
	max: func(s []float32, top *lanes) { maxLanesNEON(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, _ lookahead) { expLanesNEON(s, &top[0], &sum[0]) },
}

// newLaneTile wraps the assembly, which must not leave the slices. A step of score is four elements of so many keys.
func newLaneTile(rows, c, keys int, score scoreTile, h, w int, weigh weighTile) laneTile {
	return laneTile{
		rows: rows, c: c, h: h, w: w, scoreStep: 16, weighStep: min(16, w*h/rows),
		score: func(n, d int, q, k []float32, ldk int, s []float32, next lookahead) {
			_, _, _ = q[d*rows-1], k[(n-1)*ldk+d-1], s[n*rows-1]
			score(n/keys, d/4, &q[0], &k[0], ldk, &s[0], next.base, next.from, next.stride)
		},
		weigh: func(n int, p []float32, ldp int, v []float32, ldv int, o []float32, ldo int, next lookahead) {
			_, _, _ = p[(n-1)*ldp+h-1], v[(n-1)*ldv+w-1], o[(h-1)*ldo+w-1]
			weigh(n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.base, next.from, next.stride)
		},
	}
}
