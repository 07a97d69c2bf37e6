package kernels

import "slices"

var lanesAVX512 = lanePath{
	width: 16,
	tiles: []laneTile{
		avxLaneTile(16, 1, 16, score1AVX512, 1, 64, sumValues1AVX512).
			scoringHalf(16, 16, score1BF16AVX512, score1F16AVX512).weighingHalf(sumValues1BF16AVX512, sumValues1F16AVX512),
		avxLaneTile(16, 2, 16, score2AVX512, 2, 64, sumValues2AVX512).
			scoringHalf(16, 8, score2BF16AVX512, score2F16AVX512).weighingHalf(sumValues2BF16AVX512, sumValues2F16AVX512),
		avxLaneTile(16, 4, 16, score4AVX512, 4, 64, sumValues4AVX512).weighingHalf(sumValues4BF16AVX512, sumValues4F16AVX512),
		avxLaneTile(16, 8, 8, score8AVX512, 8, 32, sumValues8AVX512).weighingHalf(sumValues8BF16AVX512, sumValues8F16AVX512),
		avxLaneTile(16, 16, 8, score16AVX512, 8, 32, sumValues16AVX512).weighingHalf(sumValues16BF16AVX512, sumValues16F16AVX512),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX512(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, next lookahead) {
		expLanesAVX512(s, &top[0], &sum[0], next.base, next.from, next.stride)
	},
}

// lanesBF16 is lanesAVX512 with scores by pairs of bfloat16.
var lanesBF16 = func() lanePath {
	l := lanesAVX512
	l.tiles = slices.Clone(l.tiles)
	for i, score := range [...]halfScoreTile{score1Pairs, score2Pairs, score4Pairs, score8Pairs, score16Pairs} {
		rows := l.tiles[i].rows
		l.tiles[i].scorePairs = func(n, d int, q []float32, k []uint16, ldk int, s []float32, next lookahead) {
			_, _, _ = q[d*rows-1], k[(n-1)*ldk+d-1], s[n*rows-1]
			score(n/maxLanes, d*rows/(2*maxLanes), &q[0], &k[0], ldk, &s[0], next.base, next.from, next.stride)
		}
	}
	return l
}()

var lanesAVX2 = lanePath{
	width: 8,
	tiles: []laneTile{
		avxLaneTile(8, 1, 8, score1AVX2, 1, 32, sumValues1AVX2).
			scoringHalf(8, 8, score1BF16AVX2, score1F16AVX2).weighingHalf(sumValues1BF16AVX2, sumValues1F16AVX2),
		avxLaneTile(8, 2, 8, score2AVX2, 2, 32, sumValues2AVX2).
			scoringHalf(8, 4, score2BF16AVX2, score2F16AVX2).weighingHalf(sumValues2BF16AVX2, sumValues2F16AVX2),
		avxLaneTile(8, 4, 4, score4AVX2, 4, 16, sumValues4AVX2).weighingHalf(sumValues4BF16AVX2, sumValues4F16AVX2),
		avxLaneTile(8, 8, 4, score8AVX2, 4, 16, sumValues8AVX2).weighingHalf(sumValues8BF16AVX2, sumValues8F16AVX2),
	},
	max: func(s []float32, top *lanes) { maxLanesAVX2(s, &top[0]) },
	exp: func(s []float32, top, sum *lanes, next lookahead) {
		expLanesAVX2(s, &top[0], &sum[0], next.base, next.from, next.stride)
	},
}

// avxLaneTile is a tile whose keys have as many registers of sums as the path has lanes.
func avxLaneTile(width, rows, keys int, score scoreTile, h, w int, sumValues sumValuesTile) laneTile {
	c := width / keys * width / rows
	return newLaneTile(laneTile{rows: rows, c: c, h: h, w: w, scoreStep: maxLanes}, keys, c, score, sumValues)
}

// scoringHalf gives t the assembly for keys of 16 bits, of which a step is of so many keys and elements.
func (t laneTile) scoringHalf(keys, elements int, bf16, f16 halfScoreTile) laneTile {
	tiles := [...]halfScoreTile{bf16, f16}
	t.scoreHalf = func(h Half, n, d int, q []float32, k []uint16, ldk int, s []float32, next lookahead) {
		_, _, _ = q[d*t.rows-1], k[(n-1)*ldk+d-1], s[n*t.rows-1]
		tiles[h-1](n/keys, d/elements, &q[0], &k[0], ldk, &s[0], next.base, next.from, next.stride)
	}
	return t
}

// weighingHalf gives t the assembly for values of 16 bits.
func (t laneTile) weighingHalf(bf16, f16 halfSumValuesTile) laneTile {
	tiles := [...]halfSumValuesTile{bf16, f16}
	t.sumValuesHalf = func(h Half, n int, p []float32, ldp int, v []uint16, ldv int, o []float32, ldo int, next lookahead) {
		_, _, _ = p[(n-1)*ldp+t.h-1], v[(n-1)*ldv+t.w-1], o[(t.h-1)*ldo+t.w-1]
		tiles[h-1](n, &p[0], ldp, &v[0], ldv, &o[0], ldo, next.base, next.from, next.stride)
	}
	return t
}
