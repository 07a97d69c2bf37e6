package extending_test

import (
	"testing"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/engine/infer"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// counting is the processor as a device that counts the floating-point operations of its matrix products.
type counting struct {
	*cpu.Device
	flops int64
}

func newCounting() *counting { return &counting{Device: cpu.New()} }

func (d *counting) Multiply(rows, k int, x device.Buffer, ps []device.Product) {
	for _, p := range ps {
		d.flops += 2 * int64(rows) * int64(k) * int64(p.N)
	}
	d.Device.Multiply(rows, k, x, ps)
}

func (d *counting) Gemm(ta, tb bool, m, n, k int, alpha float32, a device.Buffer, lda int, b device.Buffer, ldb int, beta float32, c device.Buffer, ldc int) {
	d.flops += 2 * int64(m) * int64(n) * int64(k)
	d.Device.Gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
}

// TestDeviceConforms runs the suite that every device passes.
func TestDeviceConforms(t *testing.T) {
	devicetest.Run(t, func() device.Device { return newCounting() })
}

// TestDeviceRunsModel runs a model on the device: two operations for each weight of its matrices and each token.
func TestDeviceRunsModel(t *testing.T) {
	c := golden.Named(t, "llama")
	src, all := golden.Load(t, c.Dir)
	dev := newCounting()
	decoder := infer.New(dev, src.Arch, all)
	b := ops.NewBatch(c.IDs...)
	decoder.Logits(b)

	params, err := src.Arch.Params()
	if err != nil {
		t.Fatal(err)
	}
	var weights int64
	for _, p := range params {
		if len(p.Shape) == 2 && p.Role != configs.Embed {
			weights += int64(p.Size())
		}
	}
	if want := 2 * weights * int64(len(b.IDs)); dev.flops != want {
		t.Errorf("%d operations, want %d", dev.flops, want)
	}
}
