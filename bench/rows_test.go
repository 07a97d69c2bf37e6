//go:build blas && cgo && amd64 && linux

package bench

import (
	"fmt"
	"testing"

	"gqa/bench/native"
	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/memory"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// rotated is the size in bytes of the weights that BenchmarkRows goes through: more than a last-level cache holds.
const rotated = 1 << 30

// BenchmarkRows is the product of few rows with weights that come from memory, as a share of reading as many bytes in the same
// run: each product takes the next matrix of rotated bytes. Figures are medians.
func BenchmarkRows(b *testing.B) {
	data := make([]float32, rotated/4)
	memory.HugePages(data)
	for i := range data {
		data[i] = 1
	}
	half := make([]uint16, rotated/2)
	memory.HugePages(half)
	blas.EncodeHalf(simd.BF16, half[:1<<24], data[:1<<24])
	for i := 1 << 24; i < len(half); i *= 2 {
		copy(half[i:], half[:i])
	}
	for _, n := range []int{1024, 4096} {
		for _, rows := range []int{1, 2, 4, 8, 9, 12, 16} {
			x, y := ramp(rows*n), make([]float32, rows*n)
			next := 0
			weights := func() int { next = (next + n*n) % (len(data) - n*n + 1); return next }
			for _, tb := range []bool{true, false} {
				b.Run(fmt.Sprintf("weights=f32/rows=%d/n=%d/tb=%t", rows, n, tb), func(b *testing.B) {
					besideReading(b, data, 4*n*n, func() { blas.Gemm(false, tb, rows, n, n, 1, x, n, data[weights():], n, 0, y, n) })
				})
			}
			b.Run(fmt.Sprintf("weights=bf16/rows=%d/n=%d/tb=true", rows, n), func(b *testing.B) {
				besideReading(b, data, 2*n*n, func() { blas.GemmNTHalf(simd.BF16, rows, n, n, x, n, half[weights():], n, 0, y, n) })
			})
		}
	}
}

// besideReading reports the bytes a second of f, which reads so many, in turn with reading data: in windows, one thread.
func besideReading(b *testing.B, data []float32, bytes int, f func()) {
	pool.SetThreads(1)
	defer pool.SetThreads(0)
	at, size := 0, 1<<20
	var ours, reads []float64
	for b.Loop() {
		reads = append(reads, rate(func() float64 {
			at = (at + size) % len(data)
			native.Read(data[at:][:size])
			return float64(4 * size)
		}))
		ours = append(ours, rate(func() float64 { f(); return float64(bytes) }))
	}
	b.ReportMetric(median(ours), "GB/s")
	b.ReportMetric(median(reads), "read-GB/s")
	b.ReportMetric(100*median(ours)/median(reads), "%read")
	b.ReportMetric(0, "ns/op")
}
