package nn

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
)

// softCases are a teacher's whole rows and its most probable tokens, at a temperature.
func softCases(rows, vocab int, temperature float32) map[string]Soft {
	whole := Soft{Logits: cputest.Normal(7, rows*vocab)}
	for i := range whole.Logits {
		whole.Logits[i] *= 4
	}
	top := Soft{K: min(vocab, 9)}
	for r := range rows {
		p := softmaxRef(whole.Logits[r*vocab:][:vocab], float64(temperature))
		ids := make([]int32, vocab)
		for i := range ids {
			ids[i] = int32(i)
		}
		slices.SortFunc(ids, func(a, b int32) int { return cmp.Compare(p[b], p[a]) })
		for _, id := range ids[:top.K] {
			top.IDs, top.LogP = append(top.IDs, id), append(top.LogP, float32(math.Log(p[id])))
		}
	}
	return map[string]Soft{"whole": whole, "top": top}
}

func TestDistill(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, d := range []Distillation{{0, 1}, {1, 1}, {0.5, 1}, {0.3, 2}, {1, 0.7}} {
			for _, size := range [][2]int{{1, 1}, {3, 5}, {7, 1000}, {5, 1537}} {
				rows, vocab := size[0], size[1]
				logits, targets := cputest.Normal(1, rows*vocab), make([]int32, rows)
				for i := range logits {
					logits[i] = logits[i]*3 + 40
				}
				for r := range targets {
					targets[r] = int32(r*31%vocab) - int32(r%3/2)*1000000 // every third row is skipped
				}
				for name, soft := range softCases(rows, vocab, d.Temperature) {
					got, want := slices.Clone(logits), slices.Clone(logits)
					ce, kl, wantCE, wantKL := cputest.Poisoned(rows), cputest.Poisoned(rows), cputest.Poisoned(rows), cputest.Poisoned(rows)
					Distill(ce, kl, got, targets, soft, d, 0.5, rows, vocab)
					DistillRef(wantCE, wantKL, want, targets, soft, d, 0.5, rows, vocab)
					what := fmt.Sprintf("%s %+v rows %d, vocab %d: ", name, d, rows, vocab)
					cputest.Compare(t, what+"ce", ce, wantCE, 1e-5)
					cputest.Compare(t, what+"kl", kl, wantKL, 5e-5)
					cputest.Compare(t, what+"gradient", got, want, 5e-6)
				}
			}
		}
	})
}

// The gradient is the loss's, with a teacher's tail too.
func TestDistillGradient(t *testing.T) {
	const rows, vocab = 3, 13
	logits, targets := cputest.Normal(1, rows*vocab), []int32{4, -1, 0}
	for _, d := range []Distillation{{0.4, 1}, {0.7, 1.5}} {
		for name, soft := range softCases(rows, vocab, d.Temperature) {
			t.Run(fmt.Sprint(name, d), func(t *testing.T) {
				ce, kl, grad := make([]float32, rows), make([]float32, rows), slices.Clone(logits)
				Distill(ce, kl, grad, targets, soft, d, 1, rows, vocab)
				cputest.CheckGradient(t, "dlogits", logits, grad, 1e-3, func() float64 {
					DistillRef(ce, kl, slices.Clone(logits), targets, soft, d, 1, rows, vocab)
					sum := 0.0
					for r := range ce {
						sum += float64(1-d.Weight)*float64(ce[r]) + float64(d.Weight*d.Temperature*d.Temperature)*float64(kl[r])
					}
					return sum
				})
			})
		}
	}
}

func TestTopLogP(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, size := range [][3]int{{1, 1, 1}, {3, 7, 7}, {5, 700, 20}} {
			rows, vocab, k := size[0], size[1], size[2]
			logits := cputest.Normal(3, rows*vocab)
			logits[vocab/2] = logits[0] // equals: the lower id is first
			ids, logP := make([]int32, rows*k), cputest.Poisoned(rows*k)
			TopLogP(ids, logP, logits, 1.5, rows, vocab, k)
			for r := range rows {
				p := softmaxRef(logits[r*vocab:][:vocab], 1.5)
				order := make([]int32, vocab)
				for i := range order {
					order[i] = int32(i)
				}
				slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(p[b], p[a]) })
				if got := ids[r*k:][:k]; !slices.Equal(got, order[:k]) {
					t.Fatalf("%v row %d: %v, want %v", size, r, got, order[:k])
				}
				for j, id := range order[:k] {
					if got, want := float64(logP[r*k+j]), math.Log(p[id]); math.Abs(got-want) > 1e-5 {
						t.Errorf("%v row %d: log-probability %v, want %v", size, r, got, want)
					}
				}
			}
		}
	})
}
