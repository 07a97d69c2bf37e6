package infer

import (
	"math"
	"slices"
	"testing"

	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// Both forms of latent attention give the same logits, without a cache and in a prefill, and they are those of tokens that are read one
// by one.
func TestLatentForms(t *testing.T) {
	for _, name := range []string{"deepseek_v3", "latent"} {
		arch, all := golden.TinyModel(t, golden.Tiny[name])
		ids := golden.Windows(2, 2, 14, arch.Vocab)
		d := New(cpu.New(), arch, all)
		var forms [2][2][]float32
		for i, f := range []ops.LatentForm{ops.LatentExpanded, ops.LatentAbsorbed} {
			d.model.SetLatentForm(f)
			forms[i][0] = slices.Clone(d.Logits(ops.NewBatch(ids...)).F32())
			h, err := d.Read(d.NewCache(2, 14), slices.Concat(ids...))
			if err != nil {
				t.Fatal(err)
			}
			forms[i][1] = slices.Clone(d.Head(h, 0, h.Rows).F32())
		}
		for i, want := range forms[0][0] {
			for _, got := range []float32{forms[0][1][i], forms[1][0][i], forms[1][1][i]} {
				if off := math.Abs(float64(got - want)); !(off <= 1e-5*max(1, math.Abs(float64(want)))) {
					t.Fatalf("%s: logit %d is %v, want %v", name, i, got, want)
				}
			}
		}
		cache := d.NewCache(2, 14)
		for at := range 14 {
			logits, err := d.Step(cache, []int32{ids[0][at], ids[1][at]})
			if err != nil {
				t.Fatal(err)
			}
			for s := range ids {
				for i, got := range logits.F32()[s*arch.Vocab:][:arch.Vocab] {
					if want := forms[0][0][(s*14+at)*arch.Vocab+i]; math.Abs(float64(got-want)) > 1e-4 {
						t.Fatalf("%s: token %d, logit %d is %v through the cache, want %v", name, at, i, got, want)
					}
				}
			}
		}
	}
}

// Caches in other formats: a pass without a cache sees what a cache would keep. Sequences can be repeated, and caches reshaped.
func TestLatentFormats(t *testing.T) {
	arch, all := golden.TinyModel(t, golden.Tiny["deepseek_v3"])
	ids := golden.Windows(2, 1, 14, arch.Vocab)
	for _, f := range []device.Format{device.F32, device.BF16, device.Int8} {
		d := newIn(cpu.New(), Formats{Cache: f}, arch, all)
		want := slices.Clone(d.Logits(ops.NewBatch(ids...)).F32()[13*arch.Vocab:])
		c, err := d.NewCache(3, 14).Reshaped(2, 20)
		if err != nil {
			t.Fatal(err)
		}
		first := c.First(1)
		if _, err := d.Step(first, ids[0][:13]); err != nil {
			t.Fatal(err)
		}
		c.Repeat(first)
		logits, err := d.Step(c, []int32{ids[0][13], ids[0][13]})
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range logits.F32() {
			if off := math.Abs(float64(got - want[i%arch.Vocab])); !(off <= 1e-4) {
				t.Fatalf("format %d: logit %d is %v, want %v", f, i, got, want[i%arch.Vocab])
			}
		}
	}
}
