package infer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints/sample"
	"gqa/configs"
	"gqa/internal/cpu/pool"
	"gqa/internal/device"
	"gqa/internal/device/cpu"
	"gqa/internal/golden"
	"gqa/internal/ops"
)

// decoders returns the decoder-only reference cases.
func decoders(t *testing.T) []*golden.Case {
	return casesOf(t, func(a *configs.Arch) bool { return a.Causal && a.EncoderLayers == 0 })
}

// casesOf returns the reference cases of some architectures, one of three of them with -short.
func casesOf(t *testing.T, of func(a *configs.Arch) bool) (cases []*golden.Case) {
	for i, c := range golden.Cases(t) {
		if testing.Short() && i%3 > 0 {
			continue
		}
		if of(load(t, c.Dir).Arch) {
			cases = append(cases, c)
		}
	}
	return cases
}

// onEach runs f for a tiny decoder of each family with a reference case.
func onEach(t *testing.T, f func(t *testing.T, d *Decoder)) {
	for _, c := range decoders(t) {
		t.Run(c.Name, func(t *testing.T) { f(t, load(t, c.Dir)) })
	}
}

func load(t *testing.T, dir string) *Decoder {
	t.Helper()
	src, all := golden.Load(t, dir)
	return New(cpu.New(), src.Arch, all)
}

// sampleDecoder returns the embedded model: large enough for its products to be shared between threads.
func sampleDecoder(t *testing.T) *Decoder {
	t.Helper()
	dir := filepath.Join(t.TempDir(), sample.Name)
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	return load(t, dir)
}

func randomIDs(seed uint64, n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = r.Int32N(int32(vocab))
	}
	return ids
}

func mustStep(t *testing.T, d *Decoder, c *Cache, ids []int32) []float32 {
	t.Helper()
	logits, err := d.Step(c, ids)
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), logits.F32()...)
}

func compare(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range want {
		if !(math.Abs(float64(got[i])-float64(want[i])) <= golden.Tolerance) {
			t.Fatalf("%s: value %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	defer pool.SetThreads(0)
	check := func(t *testing.T, d *Decoder) {
		for _, threads := range []int{1, 2} {
			for _, seqs := range []int{1, 3} {
				pool.SetThreads(threads)
				cache := d.NewCache(seqs, 64)
				mustStep(t, d, cache, randomIDs(1, 8*seqs, d.Arch.Vocab))
				ids := randomIDs(2, seqs, d.Arch.Vocab)
				allocs := 1.0
				for try := 0; try < 3 && allocs > 0; try++ { // a garbage collection may empty the pools, but not three times
					allocs = testing.AllocsPerRun(20, func() {
						if _, err := d.Step(cache, ids); err != nil {
							t.Fatal(err)
						}
					})
				}
				if allocs != 0 {
					t.Errorf("%d threads, %d sequences: a step makes %v allocations", threads, seqs, allocs)
				}
			}
		}
	}
	onEach(t, check)
	onEach(t, func(t *testing.T, d *Decoder) {
		d.eng.device = d.device.(device.Preciser).Precise()
		check(t, d)
	})
	t.Run("sample", func(t *testing.T) { check(t, sampleDecoder(t)) })
}

// Every way to split a sequence into steps gives the logits of one pass without a cache.
func TestStepsEqualOnePass(t *testing.T) {
	onEach(t, func(t *testing.T, d *Decoder) {
		const n = 24
		ids, vocab := randomIDs(3, n, d.Arch.Vocab), d.Arch.Vocab
		want := append([]float32(nil), d.Logits(ops.NewBatch(ids)).F32()...)
		after := func(n int) []float32 { return want[(n-1)*vocab : n*vocab] }
		if d.Arch.Rope.LongInvFreq() != nil { // as a part of more, tokens have other logits
			after = func(n int) []float32 { return slices.Clone(d.Logits(ops.NewBatch(ids[:n])).F32()[(n-1)*vocab:]) }
		}
		for _, pieces := range [][]int{{24}, {1, 23}, {23, 1}, {5, 1, 1, 7, 10}, {12, 12}} {
			cache, at := d.NewCache(1, n), 0
			for _, p := range pieces {
				got := mustStep(t, d, cache, ids[at:at+p])
				at += p
				compare(t, fmt.Sprintf("pieces %v, token %d", pieces, at-1), got, after(at))
			}
			if cache.Len != n {
				t.Errorf("pieces %v: the cache has %d tokens, want %d", pieces, cache.Len, n)
			}
		}
	})
}

// Sequences of a batch, and caches that take turns, do not see each other.
func TestSequencesAreIndependent(t *testing.T) {
	onEach(t, func(t *testing.T, d *Decoder) {
		const seqs, prompt, more = 3, 7, 4
		var ids [seqs][]int32
		var alone [seqs]*Cache
		batch, vocab := d.NewCache(seqs, prompt+more), d.Arch.Vocab
		for s := range ids {
			ids[s], alone[s] = randomIDs(uint64(s), prompt+more, vocab), d.NewCache(1, prompt+more+s)
		}
		step := func(lo, hi int) {
			var next []int32
			var want []float32
			for s := range ids {
				next = append(next, ids[s][lo:hi]...)
				want = append(want, mustStep(t, d, alone[s], ids[s][lo:hi])...)
			}
			compare(t, fmt.Sprintf("after token %d", hi-1), mustStep(t, d, batch, next), want)
		}
		step(0, prompt)
		for i := prompt; i < prompt+more; i++ {
			step(i, i+1)
		}
	})
}

func TestStepRefuses(t *testing.T) {
	d := load(t, decoders(t)[0].Dir)
	cache := d.NewCache(2, 5)
	mustStep(t, d, cache, make([]int32, 6))
	for n, want := range map[int]string{
		0: "0 tokens for 2 sequences",
		1: "1 tokens for 2 sequences",
		3: "3 tokens for 2 sequences",
		6: "room for 5 tokens, but 6 are needed",
	} {
		if _, err := d.Step(cache, make([]int32, n)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d ids: error %v, want one with %q", n, err, want)
		}
		if cache.Len != 3 {
			t.Errorf("%d ids: a refused step left %d tokens, want 3", n, cache.Len)
		}
	}
	mustStep(t, d, cache, make([]int32, 4))
}

func TestChecks(t *testing.T) {
	for _, c := range golden.Cases(t) {
		d := load(t, c.Dir)
		if err := d.CheckIDs([]int32{0, int32(d.Arch.Vocab) - 1}); err != nil {
			t.Errorf("%s: ids of the vocabulary: %v", c.Name, err)
		}
		for _, id := range []int32{-1, int32(d.Arch.Vocab)} {
			if err := d.CheckIDs([]int32{0, id}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("token 1 has ID %d", id)) {
				t.Errorf("%s: id %d: %v", c.Name, id, err)
			}
		}
		limit := d.Arch.MaxPositions()
		if err := d.CheckLength(limit); err != nil {
			t.Errorf("%s: as long as it may be: %v", c.Name, err)
		}
		if err := d.CheckLength(limit + 1<<20); (err != nil) != (limit > 0) {
			t.Errorf("%s: a million positions more than %d: %v", c.Name, limit, err)
		}
	}
}

// Logits can be computed in any pieces of rows; each piece may reuse the memory of the previous one.
func TestHeadInPieces(t *testing.T) {
	d := load(t, decoders(t)[0].Dir)
	b := ops.NewBatch(randomIDs(1, 9, d.Arch.Vocab), randomIDs(2, 9, d.Arch.Vocab))
	want := append([]float32(nil), d.Logits(b).F32()...)
	for _, size := range []int{1, 4, 17, 18} {
		hidden, got := d.Hidden(b), []float32(nil)
		pass := slices.Clone(d.eng.arena.blocks[0].F32()[:d.body.used])
		for lo := 0; lo < hidden.Rows; lo += size {
			got = append(got, d.Head(hidden, lo, min(lo+size, hidden.Rows)).F32()...)
		}
		if !slices.Equal(d.eng.arena.blocks[0].F32()[:d.body.used], pass) {
			t.Errorf("%d rows at a time: the head wrote over the pass", size)
		}
		compare(t, fmt.Sprintf("%d rows at a time", size), got, want)
	}
}

// Positions beyond the trained context have embeddings too, where the model's kind allows them.
func TestBeyondContext(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute with the race detector, which has nothing to find in it")
	}
	onEach(t, func(t *testing.T, d *Decoder) {
		if d.Arch.MaxPositions() > 0 {
			return
		}
		n := d.Arch.Context + 40
		ids, vocab := randomIDs(8, n, d.Arch.Vocab), d.Arch.Vocab
		cache := d.NewCache(1, n)
		mustStep(t, d, cache, ids[:d.Arch.Context-3])
		var got []float32
		for i := d.Arch.Context - 3; i < n; i++ {
			got = mustStep(t, d, cache, ids[i:i+1])
		}
		compare(t, "the last token", got, d.Logits(ops.NewBatch(ids)).F32()[(n-1)*vocab:])
	})
}
