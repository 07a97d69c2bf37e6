//go:build cuda && linux

package infer

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"gqa/checkpoints/sample"
	"gqa/internal/cuda"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	devcuda "gqa/internal/device/cuda"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// openGPU opens the first GPU, or skips the test if there is none.
func openGPU(t *testing.T, act device.Format) *devcuda.Device {
	t.Helper()
	if n, err := cuda.Count(); err != nil || n == 0 {
		t.Skipf("no GPU: %d found, %v", n, err)
	}
	dev, err := devcuda.Open(0, devcuda.Options{Activations: act})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	return dev
}

// readThrough returns the logits after each token from number `first` on of texts of one length: tokens before are read at once, the others
// one by one.
func readThrough(t *testing.T, d *Decoder, texts [][]int32, first int) (all []float32) {
	t.Helper()
	cache := d.NewCache(len(texts), len(texts[0]))
	defer d.Free(cache)
	for at, to := 0, first; to <= len(texts[0]); at, to = to, to+1 {
		var ids []int32
		for _, text := range texts {
			ids = append(ids, text[at:to]...)
		}
		logits, err := d.Step(cache, ids)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d.Host(logits)...)
	}
	return all
}

// TestKeptOnGPU: what caches keep on a GPU gives the logits that it gives on the processor, in a pass without a cache and in steps, which the GPU
// repeats from a graph.
func TestKeptOnGPU(t *testing.T) {
	dev := openGPU(t, device.F32)
	for _, name := range []string{"llama", "gpt_neox", "gptj", "phi", "chatglm", "gpt2"} {
		c := golden.Named(t, name)
		src, all := golden.Load(t, c.Dir)
		ids := slices.Concat(c.IDs[0], c.IDs[0])[:12]
		other := slices.Clone(ids)
		slices.Reverse(other)
		exact := New(cpu.New(), src.Arch, all)
		for _, f := range append(keptCases, Formats{Window: 6}, Formats{Window: 5, Sinks: 3, Cache: device.Int4}) {
			if checkKept(cpu.New(), src.Arch, f.kept()) != nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/%+v", name, f), func(t *testing.T) {
				on, want := newIn(dev, f, src.Arch, all), newIn(cpu.New(), f, src.Arch, all)
				defer on.Release()
				near := func(what string, got, want, exact []float32) {
					tolerance := golden.Tolerance
					if f.Cache != device.F32 { // sums in another order are sometimes rounded to another number
						tolerance += 0.3 * apart(want, exact)
					}
					if off := apart(got, want); !(off <= tolerance) {
						t.Errorf("%s: logits differ by %g, want at most %g", what, off, tolerance)
					}
				}
				batch := ops.NewBatch(ids, other)
				near("at once", on.Host(on.Logits(batch)), want.Logits(batch).F32(), exact.Logits(batch).F32())
				texts := [][]int32{ids, other}
				for _, first := range []int{1, 5} {
					near(fmt.Sprintf("one by one after %d", first), readThrough(t, on, texts, first), readThrough(t, want, texts, first), readThrough(t, exact, texts, first))
				}
				if err := dev.Err(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestKeptSampleOnGPU scores a text by decoding it in bfloat16, for which tensor cores are used. The loss may differ from that of the processor
// in float32 by what bfloat16 costs, which is the same whatever is kept.
func TestKeptSampleOnGPU(t *testing.T) {
	dev := openGPU(t, device.BF16)
	dir := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	src, all := golden.Load(t, dir)
	var texts [][]int32
	for i := range 2 { // greedy continuations, so that losses are low
		texts = append(texts, continued(t, New(cpu.New(), src.Arch, all), []int32{int32(40 + i)}, 160))
	}
	loss := func(d *Decoder) float64 {
		logits, vocab, sum := readThrough(t, d, texts, 8), src.Arch.Vocab, 0.0
		n := 0
		for at := 8; at < len(texts[0]); at++ {
			for i, text := range texts {
				row := logits[((at-8)*len(texts)+i)*vocab:][:vocab]
				sum += logSum(row) - float64(row[text[at]])
				n++
			}
		}
		return sum / float64(n)
	}
	for _, f := range []Formats{{}, {Cache: device.BF16}, {Cache: device.Int8}, {Cache: device.Int4}, {Window: 60, Sinks: 4}, {Window: 60, Sinks: 4, Cache: device.Int8}} {
		d := newIn(dev, f, src.Arch, all)
		got, want := loss(d), loss(newIn(cpu.New(), f, src.Arch, all))
		t.Logf("%+v: loss %.4f, on the processor %.4f", f, got, want)
		if !(math.Abs(got-want) < 0.03) {
			t.Errorf("%+v: loss %g, want %g", f, got, want)
		}
		d.Release()
	}
	if err := dev.Err(); err != nil {
		t.Fatal(err)
	}
}

// continued returns tokens and the likeliest ones after them, n in all.
func continued(t *testing.T, d *Decoder, ids []int32, n int) []int32 {
	t.Helper()
	cache, best := d.NewCache(1, n), make([]int32, 1)
	next := ids
	for len(ids) < n {
		logits, err := d.Step(cache, next)
		if err != nil {
			t.Fatal(err)
		}
		d.Argmax(best, logits)
		next = slices.Clone(best)
		ids = append(ids, best...)
	}
	return ids
}

// logSum returns the logarithm of the sum of exponentials.
func logSum(x []float32) float64 {
	top, sum := float64(slices.Max(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}
