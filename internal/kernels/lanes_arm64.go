package kernels

// lanesNEON has the lanes of four registers; with four rows or more they are those of the queries, and c is 1.
var lanesNEON = lanePath{
	width: 16,
	tiles: []laneTile{
		neonLaneTile(1, 4, 16, score1NEON, 1, 32, sumValues1NEON),
		neonLaneTile(2, 4, 8, score2NEON, 2, 32, sumValues2NEON),
		neonLaneTile(4, 1, 16, score4NEON, 4, 16, sumValues4NEON),
		neonLaneTile(8, 1, 8, score8NEON, 8, 8, sumValues8NEON),
		neonLaneTile(16, 1, 4, score16NEON, 8, 8, sumValues8NEON),
	},
	max: func(s []float32, top *lanes) { maxLanesNEON(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, _ lookahead) { expLanesNEON(s, &top[0], &sum[0]) },
}

// neonLaneTile is a tile that takes four elements of so many keys in a step.
func neonLaneTile(rows, c, keys int, score scoreTile, h, w int, sumValues sumValuesTile) laneTile {
	return newLaneTile(laneTile{rows: rows, c: c, h: h, w: w, scoreStep: 16}, keys, 4, score, sumValues)
}
