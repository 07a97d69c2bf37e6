package cpu_test

import (
	"context"
	"math"
	"slices"
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

// Precise norms that also add are as precise as those that do not.
func TestPreciseAddNorms(t *testing.T) {
	d, rows, dim := cpu.New().Precise(), 3, 65
	buffer := func(seed float32) device.Buffer {
		x := make([]float32, rows*dim)
		for i := range x {
			x[i] = float32(math.Sin(float64(seed) + float64(i)*1.7))
		}
		return d.Put(x)
	}
	x, z, w, b := buffer(1), buffer(2), buffer(3).Slice(0, dim), buffer(4).Slice(0, dim)
	var none device.Buffer
	for name, norm := range map[string]func(fused bool, y, sum device.Buffer){
		"RMSNorm": func(fused bool, y, sum device.Buffer) {
			if fused {
				d.AddRMSNorm(y, none, sum, x, z, w, rows, dim, 1e-6)
			} else {
				d.RMSNorm(y, none, sum, w, rows, dim, 1e-6)
			}
		},
		"LayerNorm": func(fused bool, y, sum device.Buffer) {
			if fused {
				d.AddLayerNorm(y, none, none, sum, x, z, w, b, rows, dim, 1e-6)
			} else {
				d.LayerNorm(y, none, none, sum, w, b, rows, dim, 1e-6)
			}
		},
	} {
		y, want, sum := buffer(5), buffer(6), buffer(7)
		norm(true, y, sum)
		norm(false, want, sum)
		if !slices.Equal(y.F32(), want.F32()) {
			t.Errorf("%s of a sum is not that of the sum", name)
		}
	}
}
