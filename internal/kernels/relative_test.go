package kernels

import (
	"fmt"
	"slices"
	"testing"
)

// TestRelativeBuckets has the buckets of distances around every range's ends, computed apart in float32 by the class's formula.
func TestRelativeBuckets(t *testing.T) {
	distances := []int{-200, -128, -127, -113, -64, -32, -31, -20, -16, -15, -8, -7, -1, 0, 1, 7, 8, 15, 16, 31, 32, 64, 127, 128, 200}
	for _, c := range []struct {
		bothWays bool
		want     []int32
	}{
		{false, []int32{31, 31, 31, 31, 26, 21, 21, 17, 16, 15, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{true, []int32{15, 15, 15, 15, 14, 12, 11, 10, 10, 9, 8, 7, 1, 0, 17, 23, 24, 25, 26, 27, 28, 30, 31, 31, 31}},
	} {
		bucket := make([]int32, 401)
		RelativeBuckets(bucket, 200, 32, 128, c.bothWays)
		var got []int32
		for _, d := range distances {
			got = append(got, bucket[d+200])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("both ways %v:\n%v are in\n%v, want\n%v", c.bothWays, distances, got, c.want)
		}
	}
}

func TestRelativeBias(t *testing.T) { onPaths(t, testRelativeBias) }

func testRelativeBias(t *testing.T) {
	const buckets = 8
	for _, s := range []struct{ heads, queries, keys int }{{1, 1, 1}, {3, 1, 70}, {4, 9, 9}, {2, 3, 40}, {5, 65, 130}} {
		what := fmt.Sprintf("%+v: ", s)
		bucket := make([]int32, s.queries+s.keys-1)
		RelativeBuckets(bucket, s.keys-1, buckets, 16, true)
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
			compare(t, what+"gradient", got, wantGrad, 1e-5)
			return got
		})
	}
}
