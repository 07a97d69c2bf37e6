package target

import (
	"context"
	"testing"

	"gqa/checkpoints"
	"gqa/internal/weights"
)

// What external tests use.
var (
	FindNeighbour = findNeighbour
	NewNeighbour  = newNeighbour
)

// Unchanged is src as the result of a conversion that changes nothing.
func Unchanged(t testing.TB, src *weights.Source) Result {
	t.Helper()
	params, err := src.Arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	r := Result{Source: src, Arch: src.Arch}
	for _, p := range params {
		r.Weights = append(r.Weights, Weight{Param: p, From: p})
	}
	return r
}

// NoReader is the Reader of a result that is copied.
type NoReader struct{}

// Read must not be called.
func (NoReader) Read(context.Context, int) ([]float32, error) { panic("a weight is computed") }

// Check finds nothing.
func (NoReader) Check(context.Context, *checkpoints.Tensor, bool) error { return nil }
