package kernels

import "math"

// RelativeBuckets fills bucket with T5's bucket (Raffel et al., arXiv 1910.10683, section 2.1) of every distance between a
// query and a key: bucket[d] is that of key - query = d - last, where last is the last query's position. Buckets [0,buckets)
// hold one distance each up to half of them, then ranges that widen logarithmically up to maxDistance, beyond which there is
// one. With both directions, keys ahead of the query have the upper half to themselves; else they share bucket 0.
func RelativeBuckets(bucket []int32, last, buckets, maxDistance int, bidirectional bool) {
	for d := range bucket {
		ahead := d - last
		switch {
		case !bidirectional:
			bucket[d] = int32(distanceBucket(max(-ahead, 0), buckets, maxDistance))
		case ahead > 0:
			bucket[d] = int32(buckets/2 + distanceBucket(ahead, buckets/2, maxDistance))
		default:
			bucket[d] = int32(distanceBucket(-ahead, buckets/2, maxDistance))
		}
	}
}

// distanceBucket is computed in float32, as the class does: where a range ends at a whole number, rounding decides.
func distanceBucket(distance, buckets, maxDistance int) int {
	exact := buckets / 2
	if distance < exact {
		return distance
	}
	log := float32(math.Log(float64(float32(distance) / float32(exact))))
	whole := float32(math.Log(float64(maxDistance) / float64(exact)))
	return min(exact+int(log/whole*float32(buckets-exact)), buckets-1)
}

// RelativeBias is y[h,i,j] = table[bucket[j-i+queries-1],h]: y [heads, queries, keys], table [buckets, heads], bucket
// [queries+keys-1].
func RelativeBias(y, table []float32, bucket []int32, heads, queries, keys int) {
	if queries == 1 { // a decoded token: no work worth sharing
		relativeBias(y, table, bucket, heads, queries, keys, 0, heads)
		return
	}
	For(heads, 1, func(lo, hi int) { relativeBias(y, table, bucket, heads, queries, keys, lo, hi) })
}

// relativeBias is heads [lo,hi) of RelativeBias. A query's row is the one before it, shifted by a key.
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

// RelativeBiasBackward is dtable[bucket[j-i+queries-1],h] += gy[h,i,j].
func RelativeBiasBackward(dtable, gy []float32, bucket []int32, heads, queries, keys int) {
	For(heads, 1, func(lo, hi int) {
		line := make([]float32, len(bucket))
		for h := lo; h < hi; h++ {
			clear(line)
			for i := range queries {
				kern.axpy(1, gy[(h*queries+i)*keys:][:keys], line[queries-1-i:][:keys])
			}
			for d, b := range bucket {
				dtable[int(b)*heads+h] += line[d]
			}
		}
	})
}
