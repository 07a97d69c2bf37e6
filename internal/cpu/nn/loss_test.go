package nn

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

func TestCrossEntropy(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, size := range [][2]int{{1, 1}, {3, 5}, {4, 1000}, {40, 1537}} {
			rows, vocab := size[0], size[1]
			logits, targets := cputest.Normal(1, rows*vocab), make([]int32, rows)
			for i := range logits {
				logits[i] = logits[i]*5 + 40
			}
			for r := range targets {
				targets[r] = int32(r*31%vocab) - int32(r%3/2)*1000000 // every third row is skipped
			}
			loss, lse, wantLoss, wantLSE := cputest.Poisoned(rows), cputest.Poisoned(rows), cputest.Poisoned(rows), cputest.Poisoned(rows)
			CrossEntropy(loss, lse, logits, targets, rows, vocab)
			CrossEntropyRef(wantLoss, wantLSE, logits, targets, rows, vocab)
			what := fmt.Sprintf("rows %d, vocab %d: ", rows, vocab)
			cputest.Compare(t, what+"lse", lse, wantLSE, 1e-6)
			cputest.Compare(t, what+"loss", loss, wantLoss, 5e-6)
			got, want := slices.Clone(logits), slices.Clone(logits)
			CrossEntropyGradient(loss, got, targets, 0.5, rows, vocab)
			CrossEntropyGradientRef(wantLoss, want, targets, 0.5, rows, vocab)
			cputest.Compare(t, what+"loss beside the gradient", loss, wantLoss, 5e-6)
			cputest.Compare(t, what+"gradient", got, want, 5e-6)
		}
	})
}

func TestCrossEntropyGradient(t *testing.T) {
	const rows, vocab = 3, 13
	logits, targets := cputest.Normal(1, rows*vocab), []int32{4, -1, 0}
	loss := make([]float32, rows)
	cputest.OnPaths(t, func(t *testing.T) {
		grad := slices.Clone(logits)
		CrossEntropyGradient(loss, grad, targets, 1, rows, vocab)
		cputest.CheckGradient(t, "dlogits", logits, grad, 1e-3, func() float64 {
			CrossEntropyRef(loss, nil, logits, targets, rows, vocab)
			return cputest.Weighted([]float32{1, 1, 1}, loss)
		})
	})
}

func TestArgmaxRows(t *testing.T) {
	inf := float32(math.Inf(-1))
	logits := []float32{1, 3, 3, 2, inf, inf, inf, inf, -1, -2, -3, 0}
	out := make([]int32, 3)
	ArgmaxRows(out, logits, 3, 4)
	if out[0] != 1 || out[1] != 0 || out[2] != 3 {
		t.Errorf("argmax %v, want [1 0 3]", out)
	}
}
