package nn

import (
	"math"
	"testing"

	"gqa/internal/cpu/cputest"
)

func TestClip(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	x := []float32{-inf, -3, -2, -1, 0, 1, 2, 3, inf}
	y, dx := cputest.Poisoned(len(x)), cputest.Poisoned(len(x))
	Clip(y, x, 2)
	cputest.Same(t, "y", y, []float32{-2, -2, -2, -1, 0, 1, 2, 2, 2})
	ClipBackward(dx, []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}, x, 2)
	cputest.Same(t, "dx", dx, []float32{0, 0, 3, 4, 5, 6, 7, 0, 0})
	y = []float32{nan}
	if Clip(y, y, 2); y[0] == y[0] {
		t.Errorf("what is not a number becomes %v", y[0])
	}
}
