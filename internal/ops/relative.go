package ops

import "math"

// Fill fills bucket with T5's bucket (Raffel et al., arXiv 1910.10683, section 2.1) of every distance between a
// query and a key: bucket[d] is that of key - query = d - last, where last is the last query's position. Buckets [0,buckets)
// hold one distance each up to half of them, then ranges that widen logarithmically up to maxDistance, beyond which there is
// one. With both directions, keys ahead of the query have the upper half to themselves; else they share bucket 0.
func (r Relative) Fill(bucket []int32, last int) {
	for d := range bucket {
		ahead := d - last
		switch {
		case !r.BothWays:
			bucket[d] = int32(distanceBucket(max(-ahead, 0), r.Buckets, r.MaxDistance))
		case ahead > 0:
			bucket[d] = int32(r.Buckets/2 + distanceBucket(ahead, r.Buckets/2, r.MaxDistance))
		default:
			bucket[d] = int32(distanceBucket(-ahead, r.Buckets/2, r.MaxDistance))
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
