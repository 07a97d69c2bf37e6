package cpu_test

import (
	"context"
	"testing"

	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
)

func TestDevice(t *testing.T) { devicetest.Run(t, func() device.Device { return cpu.New() }) }

// Once its context is done the device skips expensive operations.
func TestUntil(t *testing.T) {
	d := cpu.New()
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
