package nn

import (
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// RelativeBias computes y[h,i,j] = table[bucket[j-i+queries-1],h]: y [heads, queries, keys], table [buckets, heads], bucket
// [queries+keys-1].
func RelativeBias(y, table []float32, bucket []int32, heads, queries, keys int) {
	if queries == 1 { // a decoded token: no work worth sharing
		relativeBias(y, table, bucket, heads, queries, keys, 0, heads)
		return
	}
	pool.For(heads, 1, func(lo, hi int) { relativeBias(y, table, bucket, heads, queries, keys, lo, hi) })
}

// relativeBias computes heads [lo,hi) of RelativeBias. A query's row is the one before it, shifted by a key.
func relativeBias(y, table []float32, bucket []int32, heads, queries, keys, lo, hi int) {
	for h := lo; h < hi; h++ {
		row := y[h*queries*keys:][:keys]
		for j, b := range bucket[queries-1:] {
			row[j] = table[int(b)*heads+h]
		}
		for i := 1; i < queries; i++ {
			next := y[(h*queries+i)*keys:][:keys]
			next[0] = table[int(bucket[queries-1-i])*heads+h]
			copy(next[1:], row)
			row = next
		}
	}
}

// RelativeBiasBackward computes dtable[bucket[j-i+queries-1],h] += gy[h,i,j].
func RelativeBiasBackward(dtable, gy []float32, bucket []int32, heads, queries, keys int) {
	pool.For(heads, 1, func(lo, hi int) {
		line := make([]float32, len(bucket))
		for h := lo; h < hi; h++ {
			clear(line)
			for i := range queries {
				simd.Axpy(1, gy[(h*queries+i)*keys:][:keys], line[queries-1-i:][:keys])
			}
			for d, b := range bucket {
				dtable[int(b)*heads+h] += line[d]
			}
		}
	})
}
