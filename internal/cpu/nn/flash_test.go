package nn

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// naive is causal attention of as many queries as keys that makes a matrix of scores [n,n] for every head, with the same products and
// exponentials as Attend.
type naive struct {
	*attentionCase
	scores []float32 // [batch, heads, n, n]
}

func newNaive(c *attentionCase) naive {
	return naive{c, make([]float32, c.Batch*c.Heads*c.Keys*c.Keys)}
}

func (a naive) run() {
	n, d := a.Keys, a.HeadDim
	each := func(f func(b, h int, s []float32)) {
		for i := range a.Batch * a.Heads {
			f(i/a.Heads, i%a.Heads, a.scores[i*n*n:][:n*n])
		}
	}
	each(func(b, h int, s []float32) {
		blas.Gemm(false, true, n, n, d, a.Scale, a.q.at(b, h, 0), a.q.Row, a.k.at(b, h/a.group(), 0), a.k.Row, 0, s, n)
	})
	pool.For(a.Batch*a.Heads*n, 16, func(lo, hi int) {
		for row := lo; row < hi; row++ {
			s := a.scores[row*n:][:n]
			seen := s[:row%n+1]
			sum := simd.ExpSum(seen, seen, simd.Max(seen))
			simd.Scale(seen, 1/sum)
			clear(s[len(seen):])
		}
	})
	each(func(b, h int, s []float32) {
		blas.Gemm(false, false, n, d, n, 1, s, n, a.v.at(b, h/a.group(), 0), a.v.Row, 0, a.out.at(b, h, 0), a.out.Row)
	})
}

func TestNaive(t *testing.T) {
	a := Attention{Batch: 2, Queries: 40, Keys: 40, Heads: 4, KVHeads: 2, HeadDim: 16, Scale: 0.25, Causal: true}
	want, got := newAttentionCase(a, false), newAttentionCase(a, false)
	want.run()
	newNaive(got).run()
	cputest.Compare(t, "out", got.out.Data, want.out.Data, 3e-6)
}

// BenchmarkFlash compares attention in blocks, which never has all scores in memory, with a naive pass. They take turns; times and their
// ratio are medians.
func BenchmarkFlash(b *testing.B) {
	for _, n := range []int{512, 2048, 4096} {
		b.Run(fmt.Sprintf("heads=8/dim=64/tokens=%d", n), func(b *testing.B) {
			flash := attentionBench(1, n, n, 8, 8, 64, false)
			plain := newNaive(attentionBench(1, n, n, 8, 8, 64, false))
			plain.run()
			var times [2][]float64
			var ratios []float64
			for b.Loop() {
				for i, run := range []func(){flash.run, plain.run} {
					start := time.Now()
					run()
					times[i] = append(times[i], time.Since(start).Seconds())
				}
				last := len(ratios)
				ratios = append(ratios, times[1][last]/times[0][last])
			}
			b.ReportMetric(1e3*median(times[0]), "flash-ms")
			b.ReportMetric(1e3*median(times[1]), "naive-ms")
			b.ReportMetric(median(ratios), "naive/flash")
			b.ReportMetric(math.Round(4*float64(len(plain.scores))/(1<<20)), "MiB-of-scores")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
