package nn

import (
	"math"
	"slices"

	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// CrossEntropy computes loss[r] = lse[r] - logits[r, targets[r]] in nats, with lse the logarithm of the sum of exponentials
// of a row of logits [rows, vocab]. A row whose target is negative has loss 0. loss and lse are [rows]; either may be
// nil if not wanted.
func CrossEntropy(loss, lse, logits []float32, targets []int32, rows, vocab int) {
	pool.For(rows, pool.Grain(vocab), func(lo, hi int) {
		var scratch [expBlock]float32
		for r := lo; r < hi; r++ {
			row := logits[r*vocab:][:vocab]
			total := logSumExp(row, &scratch)
			if lse != nil {
				lse[r] = total
			}
			if loss == nil {
				continue
			}
			loss[r] = 0
			if t := targets[r]; t >= 0 {
				loss[r] = total - row[t]
			}
		}
	})
}

// expBlock is how many exponentials are computed at a time if only their sum is wanted.
const expBlock = 512

func logSumExp(x []float32, scratch *[expBlock]float32) float32 {
	top := simd.Max(x)
	if math.IsInf(float64(top), 0) {
		return top
	}
	sum := 0.0
	for i := 0; i < len(x); i += expBlock {
		part := x[i:min(i+expBlock, len(x))]
		sum += float64(simd.ExpSum(scratch[:len(part)], part, top))
	}
	return float32(float64(top) + math.Log(sum))
}

// CrossEntropyGradient is CrossEntropy that also replaces logits by their gradient, scale·(softmax(logits) - onehot(target)): 0 in
// rows whose target is negative.
func CrossEntropyGradient(loss, logits []float32, targets []int32, scale float32, rows, vocab int) {
	pool.For(rows, pool.Grain(vocab), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			loss[r] = crossEntropyRow(logits[r*vocab:][:vocab], targets[r], scale)
		}
	})
}

func crossEntropyRow(row []float32, target int32, scale float32) (loss float32) {
	if target < 0 {
		clear(row)
		return 0
	}
	top, picked, sum := simd.Max(row), row[target], 0.0
	for i := 0; i < len(row); i += expBlock {
		part := row[i:min(i+expBlock, len(row))]
		sum += float64(simd.ExpSum(part, part, top))
	}
	simd.Scale(row, float32(float64(scale)/sum))
	row[target] -= scale
	return float32(float64(top)+math.Log(sum)) - picked
}

// ArgmaxRows writes the index of the largest logit of each row of [rows, vocab] to out [rows]; the lowest index wins
// ties. A row with NaNs gives any index.
func ArgmaxRows(out []int32, logits []float32, rows, vocab int) {
	if rows*vocab <= pool.BlockElements {
		argmaxRows(out, logits, 0, rows, vocab)
		return
	}
	pool.For(rows, pool.Grain(vocab), func(lo, hi int) { argmaxRows(out, logits, lo, hi, vocab) })
}

func argmaxRows(out []int32, logits []float32, lo, hi, vocab int) {
	for r := lo; r < hi; r++ {
		row := logits[r*vocab:][:vocab]
		out[r] = int32(max(slices.Index(row, simd.Max(row)), 0))
	}
}

// CrossEntropyRef is the definition of CrossEntropy, in float64.
func CrossEntropyRef(loss, lse, logits []float32, targets []int32, rows, vocab int) {
	for r := range rows {
		row := logits[r*vocab:][:vocab]
		top, sum := float64(slices.Max(row)), 0.0
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		total := top + math.Log(sum)
		if lse != nil {
			lse[r] = float32(total)
		}
		if loss != nil {
			loss[r] = 0
			if t := targets[r]; t >= 0 {
				loss[r] = float32(total - float64(row[t]))
			}
		}
	}
}

// CrossEntropyGradientRef is the definition of CrossEntropyGradient, in float64.
func CrossEntropyGradientRef(loss, logits []float32, targets []int32, scale float32, rows, vocab int) {
	CrossEntropyRef(loss, nil, logits, targets, rows, vocab)
	for r := range rows {
		row, t, sum := logits[r*vocab:][:vocab], int(targets[r]), 0.0
		top := float64(slices.Max(row))
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		for i, v := range row {
			p := math.Exp(float64(v)-top) / sum
			if i == t {
				p--
			}
			if t < 0 {
				p = 0
			}
			row[i] = float32(p * float64(scale))
		}
	}
}
