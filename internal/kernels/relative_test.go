package kernels

import (
	"fmt"
	"testing"
)

func TestRelativeBias(t *testing.T) { onPaths(t, testRelativeBias) }

func testRelativeBias(t *testing.T) {
	const buckets = 8
	for _, s := range []struct{ heads, queries, keys int }{{1, 1, 1}, {3, 1, 70}, {4, 9, 9}, {2, 3, 40}, {5, 65, 130}} {
		what := fmt.Sprintf("%+v: ", s)
		bucket := make([]int32, s.queries+s.keys-1)
		for i := range bucket {
			bucket[i] = int32(i * 5 % buckets)
		}
		table, y := normal(1, buckets*s.heads), poisoned(s.heads*s.queries*s.keys)
		RelativeBias(y, table, bucket, s.heads, s.queries, s.keys)
		gy, grad := normal(2, len(y)), normal(3, len(table))
		wantGrad, want := clone(grad), poisoned(len(y))
		for i := range want {
			h, q, k := i/s.keys/s.queries, i/s.keys%s.queries, i%s.keys
			at := int(bucket[k-q+s.queries-1])*s.heads + h
			want[i] = table[at]
			wantGrad[at] += gy[i]
		}
		same(t, what+"bias", y, want)
		withThreads(t, func() []float32 {
			got := clone(grad)
			RelativeBiasBackward(got, gy, bucket, s.heads, s.queries, s.keys)
			compare(t, what+"gradient", got, wantGrad, 1e-4) // both add up to a thousand numbers in float32
			return got
		})
	}
}
