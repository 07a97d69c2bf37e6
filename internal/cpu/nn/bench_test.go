package nn

import (
	"fmt"
	"math"
	"testing"

	"gqa/internal/activation"
	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/simd"
)

var intsNames = map[simd.Ints]string{simd.I8: "int8", simd.I4: "int4"}

var halfNames = map[simd.Half]string{simd.BF16: "bf16", simd.F16: "f16"}

// attentionBench returns operands without gaps, [batch, row, head, dim] or with headsFirst [batch, head, row, dim].
func attentionBench(batch, queries, keys, heads, kvHeads, dim int, headsFirst bool) *attentionCase {
	view := func(rows, heads int) View {
		v := View{Data: cputest.Normal(1, batch*rows*heads*dim), Seq: rows * heads * dim, Head: dim, Row: heads * dim}
		if headsFirst {
			v.Head, v.Row = rows*dim, dim
		}
		return v
	}
	query := func() View { return view(queries, heads) }
	key := func() View { return view(keys, kvHeads) }
	return &attentionCase{
		Attention: Attention{
			Batch: batch, Queries: queries, Keys: keys, Heads: heads, KVHeads: kvHeads, HeadDim: dim,
			Scale: float32(1 / math.Sqrt(float64(dim))), Causal: true,
		},
		q: query(), k: key(), v: key(), out: query(), dout: query(), dq: query(), dk: key(), dv: key(),
		lse: make([]float32, batch*heads*queries),
	}
}

// BenchmarkAttend counts the operations of causal attention as if all scores were computed, as is the custom.
func BenchmarkAttend(b *testing.B) {
	for _, kvHeads := range []int{8, 2} {
		c := attentionBench(1, 512, 512, 8, kvHeads, 64, false)
		work := 4 * 512.0 * 512 * 64 * 8
		name := fmt.Sprintf("queries=512/heads=8/kv=%d/dim=64", kvHeads)
		cputest.Benchmark(b, "pass=forward/"+name, work, 0, c.run)
		cputest.Benchmark(b, "pass=backward/"+name, 2.5*work, 0, c.runBackward)
	}
}

// BenchmarkDecode is one token per sequence; the bytes are those of K and V, read once.
func BenchmarkDecode(b *testing.B) {
	for _, kvHeads := range []int{16, 4, 1} {
		c := attentionBench(4, 1, 4096, 16, kvHeads, 64, true)
		bytes := 4.0 * 4096 * float64(kvHeads) * 64 * 2 * 4
		name, work := fmt.Sprintf("batch=4/keys=4096/heads=16/kv=%d/dim=64", kvHeads), 4*4*4096*1024.0
		cputest.Benchmark(b, "cache=f32/"+name, work, bytes, c.run)
		for h, format := range halfNames {
			half := *c
			half.k, _ = encoded(h, c.k)
			half.v, _ = encoded(h, c.v)
			cputest.Benchmark(b, "cache="+format+"/"+name, work, bytes/2, half.run)
		}
		for f, format := range intsNames {
			small := *c
			small.k, small.v = cached(f, 1, 4, 4096, kvHeads, 64), cached(f, 2, 4, 4096, kvHeads, 64)
			cputest.Benchmark(b, "cache="+format+"/"+name, work, bytes/256*float64(f.Bytes(64)+4), small.run)
		}
	}
}

// BenchmarkDecodeLatent is one token per sequence of latent attention; the bytes are those of latents and rotary keys, read once.
func BenchmarkDecodeLatent(b *testing.B) {
	for _, heads := range []int{16, 64} {
		const batch, keys, rank, rope = 4, 4096, 256, 64
		c := attentionBench(batch, 1, keys, heads, 1, rank+rope, true)
		c.ValueDim = rank
		c.v = c.k
		bytes := float64(batch * keys * (rank + rope) * 4)
		name, work := fmt.Sprintf("batch=%d/keys=%d/heads=%d/rank=%d/rope=%d", batch, keys, heads, rank, rope), float64(2*batch*keys*heads*(2*rank+rope))
		cputest.Benchmark(b, "cache=f32/"+name, work, bytes, c.run)
		half := *c
		half.k, _ = encoded(simd.BF16, c.k)
		half.v = half.k
		cputest.Benchmark(b, "cache=bf16/"+name, work, bytes/2, half.run)
	}
}

func BenchmarkElementwise(b *testing.B) {
	const n = 8192
	x, y, up, out := cputest.Normal(1, n), cputest.Normal(2, n), cputest.Normal(3, n), make([]float32, n)
	w, inv := cputest.Normal(4, 1024), make([]float32, n/1024)
	cputest.Benchmark(b, "op=silu-gate", 0, 12*n, func() { Gate(activation.SiLU, out, x, up) })
	cputest.Benchmark(b, "op=silu-gate-backward", 0, 20*n, func() { GateBackward(activation.SiLU, out, y, x, x, up) })
	cputest.Benchmark(b, "op=gelu", 0, 8*n, func() { Activate(activation.GELU, out, x) })
	cputest.Benchmark(b, "op=gelu-tanh", 0, 8*n, func() { Activate(activation.GELUTanh, out, x) })
	cputest.Benchmark(b, "op=rmsnorm", 0, 8*n, func() { RMSNorm(out, inv, x, w, n/1024, 1024, 1e-5) })
	cputest.Benchmark(b, "op=rmsnorm-backward", 0, 16*n, func() { RMSNormBackward(out, nil, y, x, w, inv, n/1024, 1024) })
	cputest.Benchmark(b, "op=layernorm", 0, 8*n, func() { LayerNorm(out, nil, inv, x, w, w, n/1024, 1024, 1e-5) })
	table, pos := NewRopeTable(frequencies(32), 512, 1, false), []int32{1, 2, 3, 4, 5, 6, 7, 8}
	cputest.Benchmark(b, "op=rotate", 0, 8*n, func() { table.Rotate(out, x, pos, 16, 64, false) })
	targets, loss, lse := []int32{1, 2, 3, 4}, make([]float32, 4), make([]float32, 4)
	cputest.Benchmark(b, "op=cross-entropy", 0, 4*n, func() { CrossEntropy(loss, lse, x, targets, 4, n/4) })
	grad := make([]float32, n)
	cputest.Benchmark(b, "op=cross-entropy-gradient", 0, 12*n, func() {
		copy(grad, x)
		CrossEntropyGradient(loss, grad, targets, 1, 4, n/4)
	})
	ids := make([]int32, 4)
	cputest.Benchmark(b, "op=argmax", 0, 4*n, func() { ArgmaxRows(ids, x, 4, n/4) })
}
