package optim

import (
	"testing"

	"gqa/internal/cpu/cputest"
)

func BenchmarkAdamW(b *testing.B) {
	const n = 8192
	x := cputest.Normal(1, n)
	p, m, v := cputest.Normal(5, n), make([]float32, n), make([]float32, n)
	cputest.Benchmark(b, "op=adamw", 0, 28*n, func() { AdamW{1e-3, 0.9, 0.95, 1e-8, 0.1}.Step(p, x, m, v, 1, 3) })
}
