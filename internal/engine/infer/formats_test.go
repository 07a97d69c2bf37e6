package infer

import (
	"math"
	"testing"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/simd"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// TestFormats holds a decoder with weights in 16 bits to one in f32 over the same rounded weights, and a cache in 16 bits to
// one in f32 within what rounding keys and values may do.
func TestFormats(t *testing.T) {
	for _, c := range decoders(t) {
		src, all := golden.Load(t, c.Dir)
		for format, tolerance := range map[device.Format]float64{device.BF16: 0.1, device.F16: 0.01} {
			rounded := map[string][]float32{}
			params, _ := src.Arch.Params()
			for _, p := range params {
				rounded[p.Name] = all[p.Name]
				if len(p.Shape) == 2 && !p.IsNorm() {
					half, of := make([]uint16, p.Size()), map[device.Format]simd.Half{device.BF16: simd.BF16, device.F16: simd.F16}[format]
					blas.EncodeHalf(of, half, all[p.Name])
					rounded[p.Name] = make([]float32, p.Size())
					blas.DecodeHalf(of, rounded[p.Name], half)
				}
			}
			batch := ops.NewBatch(c.IDs...)
			want := New(cpu.New(), src.Arch, rounded).Logits(batch)
			got := newIn(cpu.New(), Formats{Weights: format}, src.Arch, all).Logits(batch)
			if d := distance(got.F32(), want.F32()); !(d < 1e-4) {
				t.Errorf("%s, format %d: weights in 16 bits are off by %g", c.Name, format, d)
			}
			d := newIn(cpu.New(), Formats{Cache: format}, src.Arch, all)
			last, err := d.Step(d.NewCache(1, batch.Len), c.IDs[0])
			if err != nil {
				t.Fatal(err)
			}
			whole := New(cpu.New(), src.Arch, all).Logits(ops.NewBatch(c.IDs[0]))
			if off := distance(last.F32(), whole.F32()[len(whole.F32())-src.Arch.Vocab:]); off == 0 || !(off < tolerance*max(1, largest(whole.F32())/5)) {
				t.Errorf("%s, format %d: a cache in 16 bits is off by %g, want a little, under %g", c.Name, format, off, tolerance)
			}
		}
	}
}

// largest is the largest size of a number.
func largest(values []float32) float64 {
	worst := 0.0
	for _, x := range values {
		worst = math.Max(worst, math.Abs(float64(x)))
	}
	return worst
}

// distance is the largest difference; infinite where lengths differ or one is not a number.
func distance(got, want []float32) float64 {
	worst := 0.0
	if len(got) != len(want) {
		return math.Inf(1)
	}
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = math.Max(worst, d)
	}
	return worst
}
