//go:build blas && cgo && amd64 && linux

package bench

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"gqa/bench/native"
	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// BenchmarkPeer runs our matrix product, OpenBLAS's and bare fused multiply-adds in turn, so that all see the same machine:
// squares, and the products of a training step (llama, dim 384, ffn 1024, vocabulary 8192, 1024 tokens). Figures are medians.
// Run with OPENBLAS_CORETYPE set to its best kernel.
func BenchmarkPeer(b *testing.B) {
	b.Logf("OpenBLAS core %s, ours %s", native.Core(), simd.Path())
	for _, threads := range []int{1, 2} {
		for _, s := range []struct {
			ta, tb  bool
			m, n, k int
		}{
			{false, true, 256, 256, 256},
			{false, true, 512, 512, 512},
			{false, true, 1024, 1024, 1024},
			{false, true, 2048, 2048, 2048},
			{false, true, 1024, 384, 384},
			{false, true, 1024, 1024, 384},
			{false, true, 1024, 384, 1024},
			{false, false, 1024, 384, 1024},
			{true, false, 1024, 384, 1024},
			{false, true, 1024, 8192, 384},
			{false, false, 1024, 384, 8192},
			{true, false, 8192, 384, 1024},
		} {
			x := newProduct(s.ta, s.tb, s.m, s.n, s.k)
			b.Run(fmt.Sprintf("m=%d/n=%d/k=%d/ta=%t/tb=%t/threads=%d", s.m, s.n, s.k, s.ta, s.tb, threads), func(b *testing.B) {
				x.race(b, threads)
			})
		}
	}
}

// BenchmarkCeiling measures the core: fused multiply-adds, and reading memory.
func BenchmarkCeiling(b *testing.B) {
	data := make([]float32, 1<<27)
	for i := range data {
		data[i] = 1
	}
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("what=fma/threads=%d", threads), func(b *testing.B) {
			var flops float64
			for range b.N {
				flops += onEach(threads, func(int) float64 { return native.FMA(1 << 22) })
			}
			b.ReportMetric(flops/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
		b.Run(fmt.Sprintf("what=read/threads=%d", threads), func(b *testing.B) {
			part := len(data) / threads
			b.SetBytes(int64(4 * len(data)))
			for range b.N {
				onEach(threads, func(i int) float64 { native.Read(data[i*part : (i+1)*part]); return 0 })
			}
		})
	}
}

func onEach(threads int, f func(i int) float64) float64 {
	sums := make([]float64, threads)
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() { sums[i] = f(i) })
	}
	wg.Wait()
	total := 0.0
	for _, s := range sums {
		total += s
	}
	return total
}

// product is one matrix product's operands.
type product struct {
	ta, tb   bool
	m, n, k  int
	lda, ldb int
	a, b, c  []float32
}

func newProduct(ta, tb bool, m, n, k int) *product {
	p := &product{ta: ta, tb: tb, m: m, n: n, k: k, lda: k, ldb: n, a: ramp(m * k), b: ramp(k * n), c: make([]float32, m*n)}
	if ta {
		p.lda = m
	}
	if tb {
		p.ldb = k
	}
	return p
}

func ramp(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i%17)/16 - 0.5
	}
	return x
}

func (p *product) ours() {
	blas.Gemm(p.ta, p.tb, p.m, p.n, p.k, 1, p.a, p.lda, p.b, p.ldb, 0, p.c, p.n)
}

func (p *product) peers(threads int) {
	native.Sgemm(threads, p.ta, p.tb, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, 0, p.c, p.n)
}

// race reports the median GFLOP/s of each, the ratio of the two products, and ours as a share of multiply-adds.
func (p *product) race(b *testing.B, threads int) {
	pool.SetThreads(threads)
	defer pool.SetThreads(0)
	work := 2 * float64(p.m) * float64(p.n) * float64(p.k)
	var ours, peers, fma, ratio []float64
	for b.Loop() {
		f := rate(func() float64 { return onEach(threads, func(int) float64 { return native.FMA(1 << 23) }) })
		o := rate(func() float64 { p.ours(); return work })
		q := rate(func() float64 { p.peers(threads); return work })
		ours, peers, fma, ratio = append(ours, o), append(peers, q), append(fma, f), append(ratio, o/q)
	}
	b.ReportMetric(median(ours), "gqa-GFLOP/s")
	b.ReportMetric(median(peers), "openblas-GFLOP/s")
	b.ReportMetric(median(ratio), "gqa/openblas")
	b.ReportMetric(100*median(ours)/median(fma), "%fma")
	b.ReportMetric(0, "ns/op")
}

// rate returns the GFLOP/s of f, which returns its operations: the median of the second half of a window. OpenBLAS's threads
// spin for tens of milliseconds after a product, and an idle core takes long to wake up; both fall into the first half.
func rate(f func() float64) float64 {
	var rates []float64
	for start, now := time.Now(), time.Now(); now.Sub(start) < window; {
		work, from := f(), now
		if now = time.Now(); from.Sub(start) >= window/2 || now.Sub(start) >= window {
			rates = append(rates, work/now.Sub(from).Seconds()/1e9)
		}
	}
	return median(rates)
}

const window = 100 * time.Millisecond

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
