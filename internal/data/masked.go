package data

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"

	"gqa/internal/ops"
)

// noise is the share of tokens that are hidden from the model (Devlin et al., arXiv 1810.04805; Raffel et al., arXiv 1910.10683).
const noise = 0.15

// Masked hides 15% of a window's tokens, at least one, behind the mask token: those are predicted from all others. Which ones
// depends on Seed and the window's tokens alone. None is replaced by a random token or left as it is.
type Masked struct {
	Mask int32
	Seed uint64
}

// Rows is a row for each token.
func (Masked) Rows(window int) int { return window }

// Batch has the tokens that are hidden as targets.
func (m Masked) Batch(windows [][]int32) (ops.Batch, []int32) {
	var seqs [][]int32
	var targets []int32
	for _, w := range windows {
		seq, hidden := append([]int32(nil), w...), make([]int32, len(w))
		for i := range hidden {
			hidden[i] = -1
		}
		for _, i := range draw(m.Seed, w).Perm(len(w))[:noisy(len(w))] {
			seq[i], hidden[i] = m.Mask, w[i]
		}
		seqs, targets = append(seqs, seq), append(targets, hidden...)
	}
	return ops.NewBatch(seqs...), targets
}

// noisy is how many of n tokens are hidden.
func noisy(n int) int { return min(n, max(1, int(float64(n)*noise+0.5))) }

// draw is a source of random numbers of a window's own.
func draw(seed uint64, window []int32) *rand.Rand {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, window) // a hash takes anything
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
