package train

import (
	"fmt"
	"testing"
)

// BenchmarkStep is a steady step of the sample model: batches of windows of 512 tokens.
func BenchmarkStep(b *testing.B) {
	for _, batch := range []int{1, 8} {
		b.Run(fmt.Sprintf("batch=%d/seq=512", batch), func(b *testing.B) {
			o, all, err := openOrigin("../checkpoints/gopher-4m")
			if err != nil {
				b.Fatal(err)
			}
			recipe := goldenRecipe(b, fmt.Sprintf("batch=%d", batch), "optimizer.lr=1e-5")
			t, err := newTrainer(recipe, o.arch, all)
			if err != nil {
				b.Fatal(err)
			}
			windows := randomWindows(1, batch, 512, o.arch.Vocab)
			step := func(n int) {
				if _, err := t.step(n, windows); err != nil {
					b.Fatal(err)
				}
			}
			step(1) // buffers
			step(2)
			b.ReportAllocs()
			for n := 3; b.Loop(); n++ {
				step(n)
			}
			b.ReportMetric(float64(batch*512*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
