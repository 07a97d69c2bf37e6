package ops

import "math"

// Fill fills bucket with T5's bucket (Raffel et al., arXiv 1910.10683, section 2.1) for every distance between a query
// and a key: bucket[d] is for key - query = d - last, where last is the last query's position. The first half of the
// buckets [0,buckets) hold one distance each; the others hold ranges that widen logarithmically up to maxDistance, and
// larger distances share the last one. With BothWays, the upper half of all buckets is for keys after the query;
// otherwise such keys share bucket 0.
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

// distanceBucket computes in float32, as the class does: where a range ends at a whole number, the result depends on
// rounding.
func distanceBucket(distance, buckets, maxDistance int) int {
	exact := buckets / 2
	if distance < exact {
		return distance
	}
	log := float32(math.Log(float64(float32(distance) / float32(exact))))
	whole := float32(math.Log(float64(maxDistance) / float64(exact)))
	return min(exact+int(log/whole*float32(buckets-exact)), buckets-1)
}
