package nn

import (
	"fmt"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

func TestRelativeBias(t *testing.T) { cputest.OnPaths(t, testRelativeBias) }

func testRelativeBias(t *testing.T) {
	const buckets = 8
	for _, s := range []struct{ heads, queries, keys int }{{1, 1, 1}, {3, 1, 70}, {4, 9, 9}, {2, 3, 40}, {5, 65, 130}} {
		what := fmt.Sprintf("%+v: ", s)
		bucket := make([]int32, s.queries+s.keys-1)
		for i := range bucket {
			bucket[i] = int32(i * 5 % buckets)
		}
		table, y := cputest.Normal(1, buckets*s.heads), cputest.Poisoned(s.heads*s.queries*s.keys)
		RelativeBias(y, table, bucket, s.heads, s.queries, s.keys)
		gy, grad := cputest.Normal(2, len(y)), cputest.Normal(3, len(table))
		wantGrad, want := slices.Clone(grad), cputest.Poisoned(len(y))
		for i := range want {
			h, q, k := i/s.keys/s.queries, i/s.keys%s.queries, i%s.keys
			at := int(bucket[k-q+s.queries-1])*s.heads + h
			want[i] = table[at]
			wantGrad[at] += gy[i]
		}
		cputest.Same(t, what+"bias", y, want)
		cputest.WithThreads(t, func() []float32 {
			got := slices.Clone(grad)
			RelativeBiasBackward(got, gy, bucket, s.heads, s.queries, s.keys)
			cputest.Compare(t, what+"gradient", got, wantGrad, 1e-4) // both add up to a thousand numbers in float32
			return got
		})
	}
}
