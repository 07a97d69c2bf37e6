package data

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"

	"gqa/internal/ops"
)

// maskRate is the fraction of tokens that are masked (Devlin et al., arXiv 1810.04805; Raffel et al., arXiv
// 1910.10683).
const maskRate = 0.15

// Masked replaces 15% of a window's tokens, at least one, by the mask token; the model predicts them from all others.
// The choice depends only on Seed and the window's tokens. Unlike in BERT, no token is replaced by a random one or
// kept.
type Masked struct {
	Mask int32
	Seed uint64
}

// Rows returns one row per token.
func (Masked) Rows(window int) int { return window }

// Batch returns windows with masked tokens, which are the targets.
func (m Masked) Batch(windows [][]int32) (ops.Batch, []int32) {
	var seqs [][]int32
	var targets []int32
	for _, w := range windows {
		seq, masked := append([]int32(nil), w...), make([]int32, len(w))
		for i := range masked {
			masked[i] = -1
		}
		for _, i := range draw(m.Seed, w).Perm(len(w))[:maskedCount(len(w))] {
			seq[i], masked[i] = m.Mask, w[i]
		}
		seqs, targets = append(seqs, seq), append(targets, masked...)
	}
	return ops.NewBatch(seqs...), targets
}

// maskedCount returns how many of n tokens are masked.
func maskedCount(n int) int { return min(n, max(1, int(float64(n)*maskRate+0.5))) }

// draw returns the random source for a window.
func draw(seed uint64, window []int32) *rand.Rand {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, window) // writing to a hash cannot fail
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
