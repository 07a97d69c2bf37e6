package infer

import (
	"slices"
	"testing"

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
		cache := whole.Reshaped(seqs, shared+rest)
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
