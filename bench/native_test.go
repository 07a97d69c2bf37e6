//go:build blas && cgo && amd64 && linux

package bench

import (
	"fmt"
	"sync"
	"testing"

	"gqa/bench/native"
	"gqa/internal/kernels"
)

// BenchmarkPeer runs our matrix product and OpenBLAS's in turn on the same operands: squares, and the products of a training
// step (llama, dim 384, ffn 1024, vocabulary 8192, 1024 tokens). Run with OPENBLAS_CORETYPE set to its best kernel.
func BenchmarkPeer(b *testing.B) {
	b.Logf("OpenBLAS core %s, ours %s", native.Core(), kernels.Path())
	for _, threads := range []int{1, 2} {
		for _, s := range []struct {
			ta, tb  bool
			m, n, k int
		}{
			{false, true, 256, 256, 256},
			{false, true, 512, 512, 512},
			{false, true, 1024, 1024, 1024},
			{false, true, 2048, 2048, 2048},
			{false, true, 1024, 1024, 384},
			{false, false, 1024, 384, 1024},
			{true, false, 1024, 384, 1024},
			{false, true, 1024, 8192, 384},
			{true, false, 8192, 384, 1024},
		} {
			x := newProduct(s.ta, s.tb, s.m, s.n, s.k)
			shape := fmt.Sprintf("m=%d/n=%d/k=%d/ta=%t/tb=%t/threads=%d", s.m, s.n, s.k, s.ta, s.tb, threads)
			b.Run("impl=gqa/"+shape, func(b *testing.B) { x.measure(b, threads, x.ours) })
			b.Run("impl=openblas/"+shape, func(b *testing.B) {
				x.measure(b, threads, func() {
					native.Sgemm(threads, x.ta, x.tb, x.m, x.n, x.k, x.a, x.lda, x.b, x.ldb, 0, x.c, x.n)
				})
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
	kernels.Gemm(p.ta, p.tb, p.m, p.n, p.k, 1, p.a, p.lda, p.b, p.ldb, 0, p.c, p.n)
}

func (p *product) measure(b *testing.B, threads int, f func()) {
	kernels.SetThreads(threads)
	defer kernels.SetThreads(0)
	f()
	b.ResetTimer()
	for range b.N {
		f()
	}
	b.ReportMetric(2*float64(p.m)*float64(p.n)*float64(p.k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
