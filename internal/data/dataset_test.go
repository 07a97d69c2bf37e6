package data

import (
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		ids, window, n int
		want           []int32 // the first token of each window
	}{
		{10, 2, 0, []int32{0, 2, 4, 6, 8}},
		{10, 2, 5, []int32{0, 2, 4, 6, 8}},
		{10, 2, 9, []int32{0, 2, 4, 6, 8}},
		{20, 2, 2, []int32{4, 14}},
		{21, 2, 3, []int32{2, 10, 16}},
		{12, 4, 1, []int32{4}},
	} {
		d := Dataset{Tokens: &Tokens{}, Window: c.window}
		for i := range c.ids {
			d.IDs = append(d.IDs, int32(i))
		}
		d.Spread(c.n)
		var got []int32
		for w := range slices.Chunk(d.IDs, c.window) {
			if len(w) == c.window {
				got = append(got, w[0])
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
