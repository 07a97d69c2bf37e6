package ops

import (
	"slices"
	"testing"
)

// TestRelativeFill has the buckets of distances around every range's ends, computed apart in float32 by the class's formula.
func TestRelativeFill(t *testing.T) {
	distances := []int{-200, -128, -127, -113, -64, -32, -31, -20, -16, -15, -8, -7, -1, 0, 1, 7, 8, 15, 16, 31, 32, 64, 127, 128, 200}
	for _, c := range []struct {
		bothWays bool
		want     []int32
	}{
		{false, []int32{31, 31, 31, 31, 26, 21, 21, 17, 16, 15, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{true, []int32{15, 15, 15, 15, 14, 12, 11, 10, 10, 9, 8, 7, 1, 0, 17, 23, 24, 25, 26, 27, 28, 30, 31, 31, 31}},
	} {
		bucket := make([]int32, 401)
		Relative{Buckets: 32, MaxDistance: 128, BothWays: c.bothWays}.Fill(bucket, 200)
		var got []int32
		for _, d := range distances {
			got = append(got, bucket[d+200])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("both ways %v:\n%v are in\n%v, want\n%v", c.bothWays, distances, got, c.want)
		}
	}
}
