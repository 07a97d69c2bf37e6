package target

import (
	"slices"
	"testing"
)

func TestRepeat(t *testing.T) {
	if got, want := repeat([]float32{1, 2, 3, 4}, 2, 6), []float32{1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
