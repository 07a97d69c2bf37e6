package simd

// attentionNEON has the lanes of four registers. With four rows or more they are those of the queries, and C is 1.
var attentionNEON = AttentionKernels{
	Width: 16,
	Tiles: []AttentionTile{
		neonAttentionTile(1, 4, 16, score1NEON, 1, 32, sumValues1NEON),
		neonAttentionTile(2, 4, 8, score2NEON, 2, 32, sumValues2NEON),
		neonAttentionTile(4, 1, 16, score4NEON, 4, 16, sumValues4NEON),
		neonAttentionTile(8, 1, 8, score8NEON, 8, 8, sumValues8NEON),
		neonAttentionTile(16, 1, 4, score16NEON, 8, 8, sumValues8NEON),
	},
	Max: func(s []float32, top *Lanes) { maxLanesNEON(s, &top[0]) },
	Exp: func(s []float32, top, sum *Lanes, _ Prefetch) { expLanesNEON(s, &top[0], &sum[0]) },
}

// neonAttentionTile returns a tile that takes four elements of a number of keys in a step.
func neonAttentionTile(rows, c, keys int, score scoreTile, h, w int, sumValues sumValuesTile) AttentionTile {
	return newAttentionTile(AttentionTile{Rows: rows, C: c, H: h, W: w, ScoreStep: 16}, keys, 4, score, sumValues)
}
