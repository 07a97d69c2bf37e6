package infer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// keptCases are what caches may keep. The golden models' prompts are longer than these windows.
var keptCases = []Formats{
	{Cache: device.BF16},
	{Cache: device.Int8},
	{Cache: device.Int4},
	{Window: 3},
	{Window: 3, Sinks: 2},
	{Window: 4, Sinks: 1, Cache: device.Int8},
}

// TestKept holds a pass without a cache to a decoder that reads the same tokens into a cache, one by one or many at a time: each token
// must see the others as the cache keeps them, in whatever order they lie there.
func TestKept(t *testing.T) {
	for i, c := range decoders(t) {
		src, all := golden.Load(t, c.Dir)
		if i%3 > 0 || src.Arch.Rope.LongInvFreq() != nil { // longrope's frequencies depend on how many tokens there are
			continue
		}
		ids := slices.Concat(c.IDs[0], c.IDs[0])[:12]
		other := slices.Clone(ids)
		slices.Reverse(other)
		both := ops.NewBatch(ids, other)
		exact := slices.Clone(New(cpu.New(), src.Arch, all).Logits(both).F32())
		for _, f := range keptCases {
			if checkKept(cpu.New(), src.Arch, f.kept()) != nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/%+v", c.Name, f), func(t *testing.T) {
				d := newIn(cpu.New(), f, src.Arch, all)
				vocab := src.Arch.Vocab
				whole := slices.Clone(d.Logits(both).F32())
				tolerance := golden.Tolerance
				if f.Cache != device.F32 { // sums in another order are sometimes rounded to another number
					tolerance += 0.3 * apart(whole, exact)
				}
				at := func(seq, i int) []float32 { return whole[(seq*len(ids)+i)*vocab:][:vocab] }
				for _, first := range []int{1, 2, 6, 11} {
					cache := d.NewCache(2, len(ids))
					got, want := mustStep(t, d, cache, slices.Concat(ids[:first], other[:first])), []float32{}
					for i := first; ; i++ {
						want = append(append(want, at(0, i-1)...), at(1, i-1)...)
						if i == len(ids) {
							break
						}
						got = append(got, mustStep(t, d, cache, []int32{ids[i], other[i]})...)
					}
					if off := apart(got, want); !(off <= tolerance) {
						t.Errorf("%d tokens at once, then one by one: logits differ by %g, want at most %g", first, off, tolerance)
					}
				}
				cache := d.NewCache(2, len(ids))
				mustStep(t, d, cache, slices.Concat(ids[:5], other[:5]))
				got, want := mustStep(t, d, cache, slices.Concat(ids[5:9], other[5:9])), slices.Concat(at(0, 8), at(1, 8))
				if off := apart(got, want); !(off <= 3*tolerance) {
					t.Errorf("4 tokens after 5: logits differ by %g, want at most %g", off, 3*tolerance)
				}
			})
		}
	}
}

// apart returns the mean difference.
func apart(got, want []float32) float64 {
	sum := 0.0
	for i, g := range got {
		sum += math.Abs(float64(g) - float64(want[i]))
	}
	return sum / float64(len(want))
}

// A window as long as the text changes nothing, and a shorter one does.
func TestWindowMatters(t *testing.T) {
	d := sampleDecoder(t)
	ids := ops.NewBatch(randomIDs(1, 40, d.Arch.Vocab))
	want := slices.Clone(d.Logits(ids).F32())
	for window, differs := range map[int]bool{40: false, 39: true, 8: true} {
		d.Window = window
		if off := distance(d.Logits(ids).F32(), want); (off > 1e-4) != differs {
			t.Errorf("a window of %d of 40 tokens: logits differ by %g", window, off)
		}
	}
}

// A cache that has dropped a token must not go on as if it had it.
func TestTruncateWindow(t *testing.T) {
	d := sampleDecoder(t)
	d.Window, d.Sinks = 4, 1
	cache := d.NewCache(1, 20)
	ids := randomIDs(1, 10, d.Arch.Vocab)
	mustStep(t, d, cache, ids[:5])
	cache.Truncate(3)
	mustStep(t, d, cache, ids[3:7])
	cache.Truncate(6)
	if _, err := d.Step(cache, ids[:1]); err == nil {
		t.Error("a step without tokens that have been dropped")
	}
	cache.Truncate(0)
	mustStep(t, d, cache, ids)
	cache.Fill(t.Context(), 10)
	cache.Truncate(7)
	mustStep(t, d, cache, ids[:1])
}

// The bytes are those of numbers and scales.
func TestKeptBytes(t *testing.T) {
	d := sampleDecoder(t)
	const seqs, capacity = 2, 40
	rows := 2 * d.Arch.Layers * d.Arch.KVHeads
	for _, c := range []struct {
		kept Kept
		want int
	}{
		{Kept{}, rows * capacity * 4 * d.Arch.HeadDim},
		{Kept{Format: device.F16}, rows * capacity * 2 * d.Arch.HeadDim},
		{Kept{Format: device.Int8}, rows * capacity * (d.Arch.HeadDim + 4)},
		{Kept{Format: device.Int4}, rows * capacity * (d.Arch.HeadDim/2 + 4)},
		{Kept{Format: device.Int4, Window: 10, Sinks: 4}, rows * 14 * (d.Arch.HeadDim/2 + 4)},
	} {
		cache, err := d.NewCacheOf(c.kept, seqs, capacity)
		if err != nil {
			t.Fatal(err)
		}
		if got := cache.Bytes(); got != int64(seqs*c.want) || rows*c.kept.Tokens(capacity)*RowBytes(c.kept.Format, d.Arch.HeadDim) != c.want {
			t.Errorf("%+v: %d bytes, want %d", c.kept, got, seqs*c.want)
		}
	}
}

func TestCheckKept(t *testing.T) {
	good := sampleDecoder(t).Arch
	odd, alibi, windowed, encoder := *good, *good, *good, *good
	odd.HeadDim, alibi.Position, encoder.Causal = 33, configs.PositionALiBi, false
	windowed.Window = 16
	for want, c := range map[string]struct {
		arch *configs.Arch
		kept Kept
	}{
		"a KV cache of 4 bits needs an even head dim, the model's is 33": {&odd, Kept{Format: device.Int4}},
		"a window cannot be combined with biases":                        {&alibi, Kept{Window: 4}},
		"the model has a sliding window of its own, of 16 tokens":        {&windowed, Kept{Window: 4}},
		"has no KV cache": {&encoder, Kept{Format: device.Int8}},
		"a window of 0 tokens and 4 sinks: want a window of 1 or more": {good, Kept{Sinks: 4}},
	} {
		err := checkKept(cpu.New(), c.arch, c.kept)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c.kept, err, want)
		}
	}
	bare := struct{ device.Device }{cpu.New()}
	for _, k := range []Kept{{Format: device.Int8}, {Window: 4}} {
		if err := checkKept(bare, good, k); err == nil {
			t.Errorf("%+v on a device that cannot do so: %v", k, err)
		}
	}
}

// TestWindowPositions holds a model of one layer, whose keys depend on nothing but their token and its position, to a short text: the
// first tokens, then the last.
func TestWindowPositions(t *testing.T) {
	for _, name := range []string{"llama", "llama-rope3", "gpt_neox", "gptj", "phi", "chatglm"} {
		c := golden.Named(t, name)
		src, all := golden.Load(t, c.Dir)
		arch := *src.Arch
		arch.Layers = 1
		d := newIn(cpu.New(), Formats{Window: 3, Sinks: 2}, &arch, all)
		ids := slices.Concat(c.IDs[0], c.IDs[0])[:12]
		want := slices.Clone(New(cpu.New(), &arch, all).Logits(ops.NewBatch(slices.Concat(ids[:2], ids[9:]))).F32())
		want = want[len(want)-arch.Vocab:]
		whole := slices.Clone(d.Logits(ops.NewBatch(ids)).F32())
		compare(t, name+", at once", whole[len(whole)-arch.Vocab:], want)
		cache := d.NewCache(1, len(ids))
		mustStep(t, d, cache, ids[:8])
		for i := 8; i < 11; i++ {
			mustStep(t, d, cache, ids[i:i+1])
		}
		compare(t, name+", one by one", mustStep(t, d, cache, ids[11:]), want)
	}
}
