//go:build cuda && linux

package cuda

import (
	"errors"
	"testing"

	"gqa/internal/cuda"
	"gqa/internal/device"
	"gqa/internal/device/devicetest"
)

// open returns the first GPU. Without one the test is skipped.
func open(t *testing.T) *Device {
	t.Helper()
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	d, err := Open(0, device.F32)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDevice(t *testing.T) {
	d := open(t)
	t.Logf("%s, %d multiprocessors", d.gpu.Name, d.gpu.Units)
	devicetest.Run(t, func() device.Device { return open(t) })
	if err := d.gpu.Synchronize(); err != nil {
		t.Fatal(err)
	}
}

func TestOutOfMemory(t *testing.T) {
	d := open(t)
	b := d.New(device.F32, 1<<40)
	d.Clear(b)
	if err := new(MemoryError); !errors.As(d.Err(), &err) || err.Wanted < 1<<42 {
		t.Errorf("error %v", d.Err())
	}
}
