package doctor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/nn"
	"gqa/internal/device"
)

// tolerance is the maximum difference, relative to 1 + |want|, between float32 results and a loop by the definition. TF32
// would differ ten times as much.
const tolerance = 1e-4

// product compares a matrix product of odd sizes with its definition.
func product(d device.Device) (string, error) {
	const m, n, k = 129, 65, 257
	a, b, want := normal(1, m*k), normal(2, k*n), make([]float32, m*n)
	blas.GemmRef(false, false, m, n, k, 1, a, k, b, n, 0, want, n)
	c := d.Put(unwritten(m * n))
	d.Gemm(false, false, m, n, k, 1, d.Put(a), k, d.Put(b), n, 0, c, n)
	return compare(d, fmt.Sprintf("[%d,%d]·[%d,%d]", m, k, k, n), c, want)
}

// attention compares causal grouped-query attention with its definition.
func attention(d device.Device) (string, error) {
	const batch, tokens, heads, kvHeads, dim, scale = 2, 131, 6, 2, 64, 0.125
	q, k, v := normal(1, batch*tokens*heads*dim), normal(2, batch*tokens*kvHeads*dim), normal(3, batch*tokens*kvHeads*dim)
	want := make([]float32, len(q))
	view := func(x []float32, heads int) nn.View {
		return nn.View{Data: x, Seq: tokens * heads * dim, Head: dim, Row: heads * dim}
	}
	nn.AttendRef(nn.Attention{
		Batch: batch, Queries: tokens, Keys: tokens, Heads: heads, KVHeads: kvHeads, HeadDim: dim, Scale: scale, Causal: true,
	}, view(want, heads), make([]float32, batch*heads*tokens), view(q, heads), view(k, kvHeads), view(v, kvHeads))
	in := func(b device.Buffer, heads int) device.Heads {
		return device.Heads{Buffer: b, Seq: tokens * heads * dim, Head: dim, Row: heads * dim}
	}
	out := d.Put(unwritten(len(want)))
	d.Attend(device.Scores{
		Batch: batch, Queries: tokens, Keys: tokens, Heads: heads, KVHeads: kvHeads, HeadDim: dim, Scale: scale, Causal: true,
	}, in(out, heads), d.New(device.F32, batch*heads*tokens), in(d.Put(q), heads), in(d.Put(k), kvHeads), in(d.Put(v), kvHeads))
	return compare(d, fmt.Sprintf("%d tokens, %d heads and %d KV heads of %d", tokens, heads, kvHeads, dim), out, want)
}

// compare reads computed values and reports how much they differ from the expected ones.
func compare(d device.Device, what string, got device.Buffer, want []float32) (string, error) {
	values := d.Host(got)
	if err := d.Err(); err != nil {
		return "", err
	}
	worst := 0.0
	for i, w := range want {
		off := math.Abs(float64(values[i])-float64(w)) / (1 + math.Abs(float64(w)))
		if !(off <= tolerance) {
			return "", fmt.Errorf("%s: number %d is %v, but must be %v within %g", what, i, values[i], w, tolerance)
		}
		worst = max(worst, off)
	}
	return fmt.Sprintf("%s, within %.1g of the definition", what, worst), nil
}

// reducer is a device that takes part in collectives.
type reducer interface {
	AllReduce(x []float32) ([]float32, error)
}

// allReduce sums over one GPU, which must not change the values.
func allReduce(d reducer) (string, error) {
	x := normal(4, 1<<16+1)
	sum, err := d.AllReduce(x)
	switch {
	case err != nil:
		return "", err
	case !slices.Equal(sum, x):
		return "", fmt.Errorf("a sum over one GPU changed the values")
	}
	return fmt.Sprintf("%d numbers over one GPU", len(x)), nil
}

// normal returns n normally distributed numbers, determined by a seed.
func normal(seed uint64, n int) []float32 {
	r, x := rand.New(rand.NewPCG(seed, 1)), make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// unwritten returns n numbers that no result contains.
func unwritten(n int) []float32 {
	return slices.Repeat([]float32{float32(math.NaN())}, n)
}
