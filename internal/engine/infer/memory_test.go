package infer

import (
	"fmt"
	"math"
	"testing"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/device/devicetest"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

func TestTruncate(t *testing.T) {
	onEach(t, func(t *testing.T, d *Decoder) {
		ids := randomIDs(5, 10, d.Arch.Vocab)
		cache := d.NewCache(1, 12)
		mustStep(t, d, cache, ids[:6])
		want := mustStep(t, d, cache, ids[6:10])
		cache.Truncate(6)
		mustStep(t, d, cache, randomIDs(6, 5, d.Arch.Vocab)) // another continuation
		cache.Truncate(6)
		compare(t, "the same continuation", mustStep(t, d, cache, ids[6:10]), want)
		if cache.Truncate(11); cache.Len != 10 {
			t.Errorf("truncated to more than it has: %d tokens, want 10", cache.Len)
		}
	})
}

// The cache holds KV heads, not query heads: a quarter of the groups is a quarter of the bytes.
func TestCacheBytes(t *testing.T) {
	const seqs, capacity = 3, 10
	onEach(t, func(t *testing.T, d *Decoder) {
		for groups := d.Arch.KVHeads; groups >= 1; groups /= 2 {
			arch := d.Arch.WithKVHeads(groups)
			cache := newCache(cpu.New(), arch, seqs, capacity, Kept{})
			var held int64
			for site := range cache.keys {
				for _, h := range cache.stored(site) {
					held += 4 * int64(len(h.F32()))
				}
			}
			want := int64(2 * 4 * arch.Layers * groups * arch.HeadDim * seqs * capacity)
			if arch.IsLatent() {
				want = int64(4 * arch.Layers * (arch.Latent.Rank + arch.Latent.RopeDim) * seqs * capacity)
			}
			if held != want || cache.Bytes() != want || arch.KVBytesPerToken(4)*seqs*capacity != want {
				t.Errorf("%d groups: holds %d bytes, says %d, want %d", groups, held, cache.Bytes(), want)
			}
		}
	})
}

// The processor's memory of a cache is garbage once it is freed: it does not wait for a cache of the same length.
func TestFreedCacheIsGarbage(t *testing.T) {
	d := sampleDecoder(t)
	first := d.NewCache(1, 5)
	freed := first.keys[0].F32()
	d.Free(first)
	if again := d.NewCache(1, 5).keys[0].F32(); &again[0] == &freed[0] {
		t.Error("a freed cache was kept")
	}
}

// A device's own memory is free again once a cache is.
func TestFreedCacheIsFree(t *testing.T) {
	dev := devicetest.NewScarce()
	d := New(dev, sampleDecoder(t).Arch, nil)
	for range 2 {
		before := dev.InUse
		c := d.NewCache(2, 9)
		if dev.InUse-before != int(c.Bytes()) {
			t.Errorf("a cache of %d bytes takes %d", c.Bytes(), dev.InUse-before)
		}
		if d.Free(c); dev.InUse != before || dev.Misused != nil {
			t.Errorf("%d bytes were in use before, %d are after a cache was freed: %v", before, dev.InUse, dev.Misused)
		}
	}
}

// Fill stands for a prefill in timings: the step after it must do the work of that many tokens.
func TestFill(t *testing.T) {
	d := sampleDecoder(t)
	cache := d.NewCache(2, 33)
	cache.Fill(t.Context(), 32)
	if cache.Len != 32 {
		t.Fatalf("filled with %d tokens, want 32", cache.Len)
	}
	seen := mustStep(t, d, cache, []int32{1, 2})
	cache.Truncate(0)
	alone := mustStep(t, d, cache, []int32{1, 2})
	same := true
	for i, x := range seen {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			t.Fatalf("logit %d is %v", i, x)
		}
		same = same && x == alone[i]
	}
	if same {
		t.Error("the step did not see what the cache was filled with")
	}
}

// A pass needs the memory of its widest block, regardless of the number of layers.
func TestMemoryOfPass(t *testing.T) {
	taken := func(layers, tokens int) (floats int) {
		arch, err := configs.Resolve(fmt.Appendf(nil, `{"model_type": "llama", "vocab_size": 50, "hidden_size": 64, "num_hidden_layers": %d,
			"num_attention_heads": 4, "intermediate_size": 160, "max_position_embeddings": 512}`, layers), "")
		if err != nil {
			t.Fatal(err)
		}
		params, err := arch.Params()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string][]float32{}
		for _, p := range params {
			all[p.Name] = make([]float32, p.Size())
		}
		d := New(cpu.New(), arch, all)
		d.Hidden(ops.NewBatch(randomIDs(1, tokens, arch.Vocab), randomIDs(2, tokens, arch.Vocab)))
		for _, b := range d.eng.arena.blocks {
			floats += b.Len()
		}
		return floats
	}
	for _, tokens := range []int{60, 512} {
		if two, ten := taken(2, tokens), taken(10, tokens); ten != two {
			t.Errorf("%d tokens: two layers take %d floats, ten take %d, want the same", tokens, two, ten)
		}
	}
}

func TestArena(t *testing.T) {
	a := arena{device: cpu.New()}
	first := a.take(arenaBlock - 1).F32()
	m := a.mark()
	second, large := a.take(2).F32(), a.take(3*arenaBlock).F32()
	if len(first) != arenaBlock-1 || len(second) != 2 || len(large) != 3*arenaBlock || cap(second) != 2 {
		t.Fatalf("took %d, %d (of %d) and %d floats", len(first), len(second), cap(second), len(large))
	}
	first[0], second[0], large[0] = 1, 2, 3
	if first[0] != 1 || second[0] != 2 {
		t.Error("slices overlap")
	}
	a.rewind(m)
	if again := a.take(2).F32(); &again[0] != &second[0] {
		t.Error("rewinding did not give the memory back")
	}
	a.reset()
	if again := a.take(arenaBlock - 1).F32(); &again[0] != &first[0] {
		t.Error("resetting did not give the memory back")
	}
	if n := testing.AllocsPerRun(5, func() {
		a.reset()
		a.take(arenaBlock - 1)
		a.take(2)
		a.take(3 * arenaBlock)
	}); n != 0 {
		t.Errorf("a pass like an earlier one makes %v allocations", n)
	}
}

// ropes counts tables of rotations.
type ropes struct {
	*cpu.Device
	made, freed int
}

func (r *ropes) NewRope(invFreq []float64, positions int, scale float64, interleaved bool) device.Rope {
	r.made++
	return r.Device.NewRope(invFreq, positions, scale, interleaved)
}

func (r *ropes) FreeRope(device.Rope) { r.freed++ }

// Tables of rotations are freed when larger ones replace them.
func TestOutgrownTablesAreFreed(t *testing.T) {
	src, all := golden.Load(t, golden.Named(t, "llama").Dir)
	dev := &ropes{Device: cpu.New()}
	d := newIn(dev, Formats{Window: 3, Sinks: 2}, src.Arch, all)
	n := src.Arch.Context
	cache := d.NewCache(1, 3*n)
	cache.Fill(t.Context(), n-1)
	mustStep(t, d, cache, []int32{1})
	if dev.made != 2 || dev.freed != 0 {
		t.Fatalf("%d tables made and %d freed, want 2 and 0", dev.made, dev.freed)
	}
	cache.Fill(t.Context(), 3*n-1)
	mustStep(t, d, cache, []int32{1})
	if dev.made != dev.freed+2 || dev.freed == 0 {
		t.Errorf("%d tables made and %d freed, want 2 less", dev.made, dev.freed)
	}
}
