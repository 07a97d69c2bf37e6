package solve

import (
	"context"
	"testing"
)

// There is no solution once the context has ended.
func TestSymmetricStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if x := Symmetric(ctx, []float32{1}, []float32{1}, 1, 0); x != nil {
		t.Errorf("%v after the context has ended", x)
	}
}
