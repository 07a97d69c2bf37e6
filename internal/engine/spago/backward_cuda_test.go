//go:build cuda && linux

package spago

import (
	"testing"

	"gqa/internal/cuda"
	"gqa/internal/device"
	gpu "gqa/internal/device/cuda"
)

// TestBackwardBySpagoOnGPU is TestBackwardBySpago on a GPU, in both formats of activations.
func TestBackwardBySpagoOnGPU(t *testing.T) {
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	for _, format := range []device.Format{device.F32, device.BF16} {
		d, err := gpu.Open(0, gpu.Options{Activations: format})
		if err != nil {
			t.Fatal(err)
		}
		checkBackward(t, d)
	}
}
