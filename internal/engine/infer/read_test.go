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

// Sequences that share their first tokens, which are read once, and that are read in a cache of another shape, have the logits of one
// pass over each.
func TestReadSharedTokens(t *testing.T) {
	onEach(t, func(t *testing.T, d *Decoder) {
		const seqs, shared, rest = 3, 7, 9
		vocab, head := d.Arch.Vocab, randomIDs(1, shared, d.Arch.Vocab)
		tails := slices.Collect(slices.Chunk(randomIDs(2, seqs*rest, vocab), rest))
		var want []float32
		for _, tail := range tails {
			logits := d.Logits(ops.NewBatch(slices.Concat(head, tail))).F32()
			want = append(want, logits[shared*vocab:]...)
		}
		whole := d.NewCache(2, 40)
		cache, err := whole.Reshaped(seqs, shared+rest)
		if err != nil {
			t.Fatal(err)
		}
		first := cache.First(1)
		mustRead(t, d, first, head)
		cache.Repeat(first)
		for range 2 { // again after the first tokens are all that is left
			cache.Truncate(shared)
			h := mustRead(t, d, cache, slices.Concat(tails...))
			compare(t, "all", d.Head(h, 0, seqs*rest).F32(), want)
			rows := []int32{2, seqs*rest - 1, 2}
			h = d.Select(h, rows)
			for i, r := range rows {
				compare(t, "selected", d.Head(h, i, i+1).F32(), want[int(r)*vocab:][:vocab])
			}
		}
		d.Free(whole)
	})
}

func mustRead(t *testing.T, d *Decoder, c *Cache, ids []int32) Mat {
	t.Helper()
	h, err := d.Read(c, ids)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// In every format, a cache whose first sequence was repeated is like one in which each sequence was read, but for rounding.
func TestRepeatFormats(t *testing.T) {
	src, all := golden.Load(t, golden.Named(t, "llama").Dir)
	for _, format := range []device.Format{device.F32, device.BF16, device.F16, device.Int8, device.Int4} {
		d := newIn(cpu.New(), Formats{Cache: format}, src.Arch, all)
		const seqs, shared, rest = 3, 7, 5
		head, tails := randomIDs(1, shared, d.Arch.Vocab), randomIDs(2, seqs*rest, d.Arch.Vocab)
		read, repeated := d.NewCache(seqs, 20), d.NewCache(seqs, 20)
		mustRead(t, d, read, slices.Concat(head, head, head))
		want := slices.Clone(d.Head(mustRead(t, d, read, tails), 0, seqs*rest).F32())
		first := repeated.First(1)
		mustRead(t, d, first, head)
		repeated.Repeat(first)
		got := d.Head(mustRead(t, d, repeated, tails), 0, seqs*rest).F32()
		for i := range got {
			if !(math.Abs(float64(got[i]-want[i])) < 0.02) {
				t.Fatalf("format %d: logit %d is %v, want %v", format, i, got[i], want[i])
			}
		}
	}
}

// The same with a window, where sinks are repeated too.
func TestRepeatWindow(t *testing.T) {
	src, all := golden.Load(t, golden.Named(t, "llama").Dir)
	d := newIn(cpu.New(), Formats{Window: 4, Sinks: 2}, src.Arch, all)
	const seqs, shared, rest = 3, 7, 5
	head := randomIDs(1, shared, d.Arch.Vocab)
	read, repeated := d.NewCache(seqs, 20), d.NewCache(seqs, 20)
	mustStep(t, d, repeated, randomIDs(3, seqs*9, d.Arch.Vocab)) // so that it has others
	repeated.Truncate(0)
	mustStep(t, d, read, slices.Concat(head, head, head))
	first := repeated.First(1)
	mustStep(t, d, first, head)
	repeated.Repeat(first)
	for i := range rest {
		ids := randomIDs(uint64(4+i), seqs, d.Arch.Vocab)
		compare(t, "a step", mustStep(t, d, repeated, ids), mustStep(t, d, read, ids))
	}
	two := repeated.First(2)
	ids := randomIDs(9, seqs, d.Arch.Vocab)
	got := mustStep(t, d, two, ids[:2])
	compare(t, "a step of the first two", got, mustStep(t, d, read, ids)[:2*d.Arch.Vocab])
	if _, err := repeated.Reshaped(1, 10); err == nil {
		t.Error("a cache with a window was reshaped")
	}
}
