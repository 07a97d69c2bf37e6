package nn

import (
	"math"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// TopLogP writes, for each row of logits [rows, vocab], the k most probable tokens to ids [rows, k], most probable first and
// the lower id first among equals, and their log-probabilities at a temperature to logP [rows, k].
func TopLogP(ids []int32, logP, logits []float32, temperature float32, rows, vocab, k int) {
	pool.For(rows, pool.Grain(vocab), func(lo, hi int) {
		var w distiller
		for r := lo; r < hi; r++ {
			row, best := logits[r*vocab:][:vocab], ids[r*k:][:k]
			top := simd.Max(row)
			total := float32(math.Log(w.expSum(row, top, temperature)))
			topIDs(best, row)
			for j, id := range best {
				logP[r*k+j] = (row[id]-top)/temperature - total
			}
		}
	})
}

// topIDs fills best with the indexes of the largest elements of x, in order. It inserts each element that is larger than the last.
func topIDs(best []int32, x []float32) {
	n := 0
	for i, v := range x {
		if n == len(best) && !(v > x[best[n-1]]) {
			continue
		}
		if n < len(best) {
			n++
		}
		j := n - 1
		for ; j > 0 && v > x[best[j-1]]; j-- {
			best[j] = best[j-1]
		}
		best[j] = int32(i)
	}
}
