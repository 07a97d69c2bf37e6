package eval

import (
	"testing"

	"gqa/internal/device/devicetest"
	"gqa/internal/golden"
	"gqa/internal/model"
)

// What a model needs is compared with the memory of the device that it is on, not with the processor's.
func TestMemoryOfDevice(t *testing.T) {
	src, all := golden.Load(t, golden.Named(t, "llama").Dir)
	dev := devicetest.NewScarce()
	m, err := newModelOn(dev, ModelOptions{}, "", src.Arch, model.FromMap(src.Arch, all))
	if err != nil {
		t.Fatal(err)
	}
	dev.Limit = dev.InUse + 1<<20
	cell := func(batch int) Cell { return Cell{"a model", m, KVCache{}, LatencyOptions{batch, 20, 0}} }
	if _, err := cell(1).Check(); err != nil {
		t.Error(err)
	}
	_, err = cell(1 << 14).Check()
	wantError(t, "a large cell", err, "the KV cache in f32 takes 0.3 GiB, but 0.0 GiB of memory are free on a scarce device")
	dev.Limit = 0 // 1 TiB, more than the processor has
	if bytes, err := cell(1 << 22).Check(); err != nil || bytes > 1<<40 {
		t.Errorf("%g bytes: %v", bytes, err)
	}
	wantError(t, "weights", checkMemoryOf(dev, "x", 1<<41), "x takes 2048.0 GiB, but 1024.0 GiB of memory are free on a scarce device")
}
