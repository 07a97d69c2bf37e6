package kernels

var lanesAVX512 = lanePath{
	width: 16,
	tiles: []laneTile{
		avxLaneTile(16, 1, 16, score1AVX512, 1, 64, weigh1AVX512),
		avxLaneTile(16, 2, 16, score2AVX512, 2, 64, weigh2AVX512),
		avxLaneTile(16, 4, 16, score4AVX512, 4, 64, weigh4AVX512),
		avxLaneTile(16, 8, 8, score8AVX512, 8, 32, weigh8AVX512),
		avxLaneTile(16, 16, 8, score16AVX512, 8, 32, weigh16AVX512),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX512(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, next lookahead) {
		expLanesAVX512(s, &top[0], &sum[0], next.base, next.from, next.stride)
	},
}

var lanesAVX2 = lanePath{
	width: 8,
	tiles: []laneTile{
		avxLaneTile(8, 1, 8, score1AVX2, 1, 32, weigh1AVX2),
		avxLaneTile(8, 2, 8, score2AVX2, 2, 32, weigh2AVX2),
		avxLaneTile(8, 4, 4, score4AVX2, 4, 16, weigh4AVX2),
		avxLaneTile(8, 8, 4, score8AVX2, 4, 16, weigh8AVX2),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX2(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, next lookahead) {
		expLanesAVX2(s, &top[0], &sum[0], next.base, next.from, next.stride)
	},
}

// avxLaneTile is a tile whose keys have as many registers of sums as the path has lanes.
func avxLaneTile(width, rows, keys int, score scoreTile, h, w int, weigh weighTile) laneTile {
	c := width / keys * width / rows
	return newLaneTile(laneTile{rows: rows, c: c, h: h, w: w, scoreStep: min(maxLanes, keys*c)}, keys, c, score, weigh)
}
