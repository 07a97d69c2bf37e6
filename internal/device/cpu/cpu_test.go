package cpu

import (
	"context"
	"testing"

	"gqa/internal/device"
	"gqa/internal/device/devicetest"
)

func TestDevice(t *testing.T) { devicetest.Run(t, func() device.Device { return New() }) }

// Once its context is done the device skips expensive operations.
func TestUntil(t *testing.T) {
	d := New()
	ctx, cancel := context.WithCancel(t.Context())
	d.Until(ctx)
	a, c := d.Put([]float32{2}), d.Put([]float32{7})
	cancel()
	d.Gemm(false, false, 1, 1, 1, 1, a, 1, a, 1, 0, c, 1)
	if got := d.Host(c)[0]; got != 7 {
		t.Errorf("a product was computed: %v", got)
	}
	d.Until(context.Background())
	d.Gemm(false, false, 1, 1, 1, 1, a, 1, a, 1, 0, c, 1)
	if got := d.Host(c)[0]; got != 4 {
		t.Errorf("the product is %v, want 4", got)
	}
}

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
