package cpu

import "testing"

func TestClipScale(t *testing.T) {
	for _, c := range []struct{ norm, limit, want float64 }{
		{0.5, 1, 1},
		{1, 1, 1 / (1 + 1e-6)}, // as torch does: no exception at the limit
		{4, 1, 1 / (4 + 1e-6)},
		{0, 1, 1},
		{4, 0, 1}, // no limit
		{1e30, 2, 2 / 1e30},
	} {
		if got := clipScale(c.norm, c.limit); float64(float32(c.want)) != float64(got) {
			t.Errorf("norm %v, limit %v: %v, want %v", c.norm, c.limit, got, c.want)
		}
	}
}
