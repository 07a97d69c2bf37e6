package simd

import "slices"

var attentionAVX512 = AttentionKernels{
	Width: 16,
	Tiles: []AttentionTile{
		avxAttentionTile(16, 1, 16, score1AVX512, 1, 64, sumValues1AVX512).
			scoringHalf(16, 16, score1BF16AVX512, score1F16AVX512).weighingHalf(sumValues1BF16AVX512, sumValues1F16AVX512).
			scoringInts(16, 16, score1I8AVX512, score1I4AVX512).weighingInts(sumValues1I8AVX512, sumValues1I4AVX512),
		avxAttentionTile(16, 2, 16, score2AVX512, 2, 64, sumValues2AVX512).
			scoringHalf(16, 8, score2BF16AVX512, score2F16AVX512).weighingHalf(sumValues2BF16AVX512, sumValues2F16AVX512).
			weighingInts(sumValues2I8AVX512, sumValues2I4AVX512),
		avxAttentionTile(16, 4, 16, score4AVX512, 4, 64, sumValues4AVX512).weighingHalf(sumValues4BF16AVX512, sumValues4F16AVX512).
			weighingInts(sumValues4I8AVX512, sumValues4I4AVX512),
		avxAttentionTile(16, 8, 8, score8AVX512, 8, 32, sumValues8AVX512).weighingHalf(sumValues8BF16AVX512, sumValues8F16AVX512).
			weighingInts(sumValues8I8AVX512, sumValues8I4AVX512),
		avxAttentionTile(16, 16, 8, score16AVX512, 8, 32, sumValues16AVX512).weighingHalf(sumValues16BF16AVX512, sumValues16F16AVX512).
			weighingInts(sumValues16I8AVX512, sumValues16I4AVX512),
	},
	Max: func(s []float32, top *Lanes) { maxLanesAVX512(s, &top[0]) },
	Exp: func(s []float32, top, sum *Lanes, next Prefetch) {
		expLanesAVX512(s, &top[0], &sum[0], next.Base, next.From, next.Stride)
	},
}

// attentionVNNI is attentionAVX512 with scores of integers by quads of bytes.
var attentionVNNI = func() AttentionKernels {
	l := attentionAVX512
	l.Tiles = slices.Clone(l.Tiles)
	for i, tiles := range [...][2]intsScoreTile{
		{score1I8Quads, nil}, {score2I8Quads, score2I4Quads}, {score4I8Quads, score4I4Quads}, {score8I8Quads, score8I4Quads}, {score16I8Quads, score16I4Quads},
	} {
		l.Tiles[i] = l.Tiles[i].scoringQuads(tiles)
	}
	return l
}()

// attentionBF16 is attentionVNNI with scores by pairs of bfloat16, too.
var attentionBF16 = func() AttentionKernels {
	l := attentionVNNI
	l.Tiles = slices.Clone(l.Tiles)
	for i, score := range [...]halfScoreTile{score1Pairs, score2Pairs, score4Pairs, score8Pairs, score16Pairs} {
		rows := l.Tiles[i].Rows
		l.Tiles[i].ScorePairs = func(n, d int, q []float32, k []uint16, ldk int, s []float32, next Prefetch) {
			_, _, _ = q[d*rows-1], k[(n-1)*ldk+d-1], s[n*rows-1]
			score(n/MaxLanes, d*rows/(2*MaxLanes), &q[0], &k[0], ldk, &s[0], next.Base, next.From, next.Stride)
		}
	}
	return l
}()

var attentionAVX2 = AttentionKernels{
	Width: 8,
	Tiles: []AttentionTile{
		avxAttentionTile(8, 1, 8, score1AVX2, 1, 32, sumValues1AVX2).
			scoringHalf(8, 8, score1BF16AVX2, score1F16AVX2).weighingHalf(sumValues1BF16AVX2, sumValues1F16AVX2).
			scoringInts(8, 8, score1I8AVX2, nil).weighingInts(sumValues1I8AVX2, nil),
		avxAttentionTile(8, 2, 8, score2AVX2, 2, 32, sumValues2AVX2).
			scoringHalf(8, 4, score2BF16AVX2, score2F16AVX2).weighingHalf(sumValues2BF16AVX2, sumValues2F16AVX2).
			weighingInts(sumValues2I8AVX2, nil),
		avxAttentionTile(8, 4, 4, score4AVX2, 4, 16, sumValues4AVX2).weighingHalf(sumValues4BF16AVX2, sumValues4F16AVX2).
			weighingInts(sumValues4I8AVX2, nil),
		avxAttentionTile(8, 8, 4, score8AVX2, 4, 16, sumValues8AVX2).weighingHalf(sumValues8BF16AVX2, sumValues8F16AVX2).
			weighingInts(sumValues8I8AVX2, nil),
	},
	Max: func(s []float32, top *Lanes) { maxLanesAVX2(s, &top[0]) },
	Exp: func(s []float32, top, sum *Lanes, next Prefetch) {
		expLanesAVX2(s, &top[0], &sum[0], next.Base, next.From, next.Stride)
	},
}

// avxAttentionTile returns a tile in which the sums of a step of keys fill as many registers as one has lanes.
func avxAttentionTile(width, rows, keys int, score scoreTile, h, w int, sumValues sumValuesTile) AttentionTile {
	c := width / keys * width / rows
	return newAttentionTile(AttentionTile{Rows: rows, C: c, H: h, W: w, ScoreStep: MaxLanes}, keys, c, score, sumValues)
}

// scoringHalf returns t with the assembly for keys of 16 bits, of which a step takes a number of keys and of elements.
func (t AttentionTile) scoringHalf(keys, elements int, bf16, f16 halfScoreTile) AttentionTile {
	tiles := [...]halfScoreTile{bf16, f16}
	t.ScoreHalf = func(h Half, n, d int, q []float32, k []uint16, ldk int, s []float32, next Prefetch) {
		_, _, _ = q[d*t.Rows-1], k[(n-1)*ldk+d-1], s[n*t.Rows-1]
		tiles[h-1](n/keys, d/elements, &q[0], &k[0], ldk, &s[0], next.Base, next.From, next.Stride)
	}
	return t
}

// weighingHalf returns t with the assembly for values of 16 bits.
func (t AttentionTile) weighingHalf(bf16, f16 halfSumValuesTile) AttentionTile {
	tiles := [...]halfSumValuesTile{bf16, f16}
	t.SumValuesHalf = func(h Half, n int, p []float32, ldp int, v []uint16, ldv int, o []float32, ldo int, next Prefetch) {
		_, _, _ = p[(n-1)*ldp+t.H-1], v[(n-1)*ldv+t.W-1], o[(t.H-1)*ldo+t.W-1]
		tiles[h-1](n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.Base, next.From, next.Stride)
	}
	return t
}
