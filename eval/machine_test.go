package eval

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gqa/internal/device"
	"gqa/internal/engine/infer"
)

func TestRoofline(t *testing.T) {
	m := Machine{Bandwidth: 100, Peak: 1000}
	for _, c := range []struct{ bytes, flops, want float64 }{
		{50, 0, 0.5},      // memory alone
		{0, 3000, 3},      // arithmetic alone
		{200, 1000, 2},    // memory takes longer
		{200, 5000, 5},    // arithmetic does
		{100, 1000, 1},    // both the same
		{1e12, 1e3, 1e10}, // no unit is lost
	} {
		if got := m.roofline(c.bytes, c.flops); got != c.want {
			t.Errorf("%v bytes, %v operations: %v s, want %v", c.bytes, c.flops, got, c.want)
		}
	}
}

// Matrix instructions for bf16 raise the ceiling of models that are entirely in bf16.
func TestRooflineOfFormats(t *testing.T) {
	const half = device.BF16
	m := Machine{Peak: 2, PeakBF16: 8}
	for f, want := range map[infer.Formats]float64{{}: 2, {Weights: half}: 2, {Weights: half, Cache: half}: 8} {
		if got := m.with(f).Peak; got != want {
			t.Errorf("%+v: peak %v, want %v", f, got, want)
		}
	}
	if got := (Machine{Peak: 2}).with(infer.Formats{Weights: half, Cache: half}).Peak; got != 2 {
		t.Errorf("without matrix instructions the peak is %v, want 2", got)
	}
}

func TestMeasureMachine(t *testing.T) {
	m := MeasureMachine(t.Context())
	// Bytes and operations per second of any machine on which the tests run, with a margin of a factor of ten on both
	// sides.
	if !(m.Bandwidth > 1e8 && m.Bandwidth < 1e13) || !(m.Peak > 1e8 && m.Peak < 1e15) {
		t.Errorf("bandwidth %v, peak %v", m.Bandwidth, m.Peak)
	}
	if strings.TrimSpace(m.Name) != m.Name || !strings.Contains(m.Name, " thread") || !strings.Contains(m.Name, "kernels ") {
		t.Errorf("name %q", m.Name)
	}
}

func TestProcField(t *testing.T) {
	file := filepath.Join(t.TempDir(), "info")
	if err := os.WriteFile(file, []byte("processor\t: 0\nmodel name\t: CPU: 3 GHz \nMemAvailable:   12 kB\nmodel name\t: other\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"model name": "CPU: 3 GHz", "MemAvailable": "12 kB", "model": "", "nothing": ""} {
		if got, ok := procField(file, name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, ok, want)
		}
	}
	if _, ok := procField(file+"x", "model name"); ok {
		t.Error("a file that is not there has a field")
	}
}
