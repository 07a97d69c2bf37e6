package merge

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gqa/internal/cpu/blas"
)

// BenchmarkLayer merges the heads of one layer of 7-billion-parameter Llama's shape: dim 4096, 32 heads of 128.
func BenchmarkLayer(b *testing.B) {
	const dim, heads = 4096, 32
	r := rand.New(rand.NewPCG(1, 1))
	a := &Attention{Heads: heads, KVHeads: heads, HeadDim: dim / heads, Key: Rotary(dim/heads, dim/heads, false), Value: AnyMap(dim / heads)}
	for _, l := range []*Linear{&a.Q, &a.K, &a.V, &a.O} {
		*l = linear(r, dim, dim, false)
	}
	m := &Moment{Mean: noise(r, dim), Cov: make([]float32, dim*dim)}
	x := noise(r, 2*dim*dim)
	blas.Gemm(true, false, dim, dim, 2*dim, 1, x, dim, x, dim, 0, m.Cov, dim)
	for _, o := range []Options{
		{Groups: 8, Method: Align},
		{Groups: 4, Method: Align},
		{Groups: 1, Method: Align},
		{Groups: 8, Method: Calibrated},
		{Groups: 4, Method: Calibrated},
		{Groups: 1, Method: Calibrated},
		{Groups: 8, Method: Align, Similar: true},
		{Groups: 8, Method: Calibrated, Similar: true},
	} {
		b.Run(fmt.Sprintf("method=%s/groups=%d/similar=%v", o.Method, o.Groups, o.Similar), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := Merge(b.Context(), a, Inputs{m, m}, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
