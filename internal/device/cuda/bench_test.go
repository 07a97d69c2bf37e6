//go:build cuda && linux

package cuda

import (
	"fmt"
	"testing"

	"gqa/internal/activation"
	"gqa/internal/cuda"
	"gqa/internal/device"
)

// repeated times f once it has run, which compiles its kernels. The time ends when the GPU has done all.
func repeated(b *testing.B, d *Device, f func()) {
	f()
	d.gpu.Synchronize()
	b.ResetTimer()
	for range b.N {
		f()
	}
	d.gpu.Synchronize()
	b.StopTimer()
}

// BenchmarkOperations times the operations of a layer of a Llama of 1 billion parameters on 8192 tokens. MB/s counts the
// data that must be read and written, TFLOP/s the arithmetic.
func BenchmarkOperations(b *testing.B) {
	const rows, dim, ffn, heads, kv, headDim, batch = 8192, 2048, 8192, 32, 8, 64, 4
	for _, format := range []device.Format{device.F32, device.BF16} {
		d, err := Open(0, Options{Activations: format, Nondeterministic: true})
		if err != nil {
			b.Skip(err)
		}
		size := format.Size()
		act := func(n int) device.Buffer { x := d.New(format, n); d.Clear(x); return x }
		x, y, w := act(rows*ffn), act(rows*ffn), act(ffn*dim)
		z, gain, inv, dgain := act(rows*ffn), d.New(device.F32, dim), d.New(device.F32, rows), d.New(device.F32, dim)
		grad := d.New(device.F32, ffn*dim)
		d.Clear(gain)
		one := d.Put([]float32{1})
		packed := device.Rows{Buffer: act(2 * rows * ffn), LD: 2 * ffn} // gate and up beside each other
		up := device.Rows{Buffer: packed.From(ffn), LD: 2 * ffn}
		var steps []device.AdamWStep // of four layers, more than the cache holds
		for range 4 {
			p, m, v := d.New(device.F32, 3*ffn*dim), d.New(device.F32, 3*ffn*dim), d.New(device.F32, 3*ffn*dim)
			for _, b := range []device.Buffer{p, m, v} {
				d.Clear(b)
			}
			steps = append(steps, device.AdamWStep{
				AdamW: device.AdamW{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}, P: p, M: m, V: v, G: act(3 * ffn * dim), Copy: act(3 * ffn * dim),
			})
		}
		var terms []device.Term // 300 parts of the gradients
		for i := range 300 {
			n := ffn * dim / 25
			terms = append(terms, device.Term{X: steps[i/75].G.Slice(i%75*n, (i%75+1)*n), Weight: 1, Squares: true})
		}
		const lossRows, vocab = 4096, 32000
		logits, targets, ce := act(lossRows*vocab), make([]int32, lossRows), d.New(device.F32, lossRows)
		rope, pos := d.NewRope(make([]float64, headDim/2), rows, 1, false), make([]int32, rows)
		for i := range pos {
			pos[i] = int32(i)
		}
		heads3 := device.Rows{Buffer: z, LD: (heads + 2*kv) * headDim}
		qs := func(x device.Buffer, n int) device.Heads {
			return device.Heads{Buffer: x, Seq: rows / batch * n * headDim, Head: headDim, Row: n * headDim}
		}
		s := device.Scores{Batch: batch, Queries: rows / batch, Keys: rows / batch, Heads: heads, KVHeads: kv, HeadDim: headDim, Scale: 0.125, Causal: true}
		q, k, v, out, lse := act(rows*dim), act(rows*dim), act(rows*dim), act(rows*dim), d.New(device.F32, batch*heads*rows/batch)
		n := rows / batch
		for name, c := range map[string]struct {
			bytes int
			flops float64
			run   func()
		}{
			"product":      {0, 2 * rows * dim * ffn, func() { d.Gemm(false, true, rows, ffn, dim, 1, x, dim, w, dim, 0, y, ffn) }},
			"product, dx":  {0, 2 * rows * dim * ffn, func() { d.Gemm(false, false, rows, dim, ffn, 1, y, ffn, w, dim, 0, x, dim) }},
			"product, dw":  {0, 2 * rows * dim * ffn, func() { d.Gemm(true, false, ffn, dim, rows, 1, y, ffn, x, dim, 0, grad, dim) }},
			"add":          {3 * rows * dim * size, 0, func() { d.Add(x.Slice(0, rows*dim), y.Slice(0, rows*dim), z.Slice(0, rows*dim)) }},
			"norm":         {2 * rows * dim * size, 0, func() { d.RMSNorm(y, inv, x, gain, rows, dim, 1e-5) }},
			"add and norm": {4 * rows * dim * size, 0, func() { d.AddRMSNorm(y, inv, z, x, z, gain, rows, dim, 1e-5) }},
			"norm, backward": {3 * rows * dim * size, 0, func() {
				d.RMSNormBackward(y, dgain, z, x, gain, inv, rows, dim, false)
			}},
			"norm, backward, added": {4 * rows * dim * size, 0, func() {
				d.RMSNormBackward(y, dgain, z, x, gain, inv, rows, dim, true)
			}},
			"gate": {3 * rows * ffn * size, 0, func() { d.Gate(activation.SiLU, x, packed, up, rows, ffn) }},
			"gate, backward": {5 * rows * ffn * size, 0, func() {
				d.GateBackward(activation.SiLU, packed, up, x, packed, up, rows, ffn)
			}},
			"rotate": {2 * rows * (heads + kv) * headDim * size, 0, func() {
				d.Rotate(rope, heads3, heads3, pos, heads+kv, headDim, false)
			}},
			"sum of rows":    {rows * ffn * size, 0, func() { d.SumRows(grad.Slice(0, ffn), x, rows, ffn) }},
			"adamw":          {4 * 3 * ffn * dim * (24 + 2*size), 0, func() { d.AdamW(steps, one, 1) }},
			"sum of squares": {len(terms) * terms[0].X.Len() * size, 0, func() { d.Sum(terms...) }},
			"cross-entropy": {2 * lossRows * vocab * size, 0, func() {
				d.CrossEntropyGradient(ce, logits, targets, 1, lossRows, vocab)
			}},
			"attend": {0, 2 * batch * heads * float64(n) * float64(n) * headDim, func() { d.Attend(s, qs(out, heads), lse, qs(q, heads), qs(k, kv), qs(v, kv)) }},
			"attend, backward": {0, 5 * batch * heads * float64(n) * float64(n) * headDim, func() {
				d.AttendBackward(s, qs(x, heads), qs(y, kv), qs(z, kv), device.Buffer{}, qs(out, heads), qs(out, heads), lse, qs(q, heads), qs(k, kv), qs(v, kv))
			}},
		} {
			b.Run(fmt.Sprintf("%s/bytes=%d", name, size), func(b *testing.B) {
				repeated(b, d, c.run)
				b.SetBytes(int64(c.bytes))
				if c.flops > 0 {
					b.ReportMetric(c.flops*float64(b.N)/b.Elapsed().Seconds()/1e12, "TFLOP/s")
				}
			})
		}
		if err := d.Err(); err != nil {
			b.Fatal(err)
		}
		for _, s := range steps {
			for _, b := range []device.Buffer{s.P, s.G, s.M, s.V, s.Copy} {
				d.Free(b)
			}
		}
		for _, x := range []device.Buffer{x, y, w, z, gain, inv, dgain, grad, q, k, v, out, lse, packed.Buffer, logits, ce} {
			d.Free(x)
		}
		d.pool.release()
	}
}

// BenchmarkAttention times attention and its gradient in bf16. TFLOP/s counts the products of half of the scores.
func BenchmarkAttention(b *testing.B) {
	for _, s := range []device.Scores{
		{Batch: 4, Queries: 2048, Keys: 2048, Heads: 32, KVHeads: 8, HeadDim: 64, Scale: 0.125, Causal: true},
		{Batch: 8, Queries: 2048, Keys: 2048, Heads: 32, KVHeads: 8, HeadDim: 128, Scale: 0.09, Causal: true},
	} {
		for _, deterministic := range []bool{false, true} {
			d, err := Open(0, Options{Activations: device.BF16, Nondeterministic: !deterministic})
			if err != nil {
				b.Skip(err)
			}
			x := newAttended(d, s, false, true)
			forward, backward := x.planned(cuda.NoBias)
			product := float64(s.Batch*s.Heads*s.HeadDim) * float64(s.Queries*s.Keys) // of half of the scores
			for _, c := range []struct {
				name  string
				err   error
				flops float64
				run   func()
			}{
				{"forward", forward, 2 * product, func() { d.Attend(s, x.out, x.lse, x.q, x.k, x.v) }},
				{"backward", backward, 5 * product, func() {
					d.AttendBackward(s, x.dq, x.dk, x.dv, device.Buffer{}, x.dout, x.out, x.lse, x.q, x.k, x.v)
				}},
			} {
				b.Run(fmt.Sprintf("%s/batch=%d/headdim=%d/deterministic=%v", c.name, s.Batch, s.HeadDim, deterministic), func(b *testing.B) {
					if c.err != nil {
						b.Log(by(c.err))
					}
					repeated(b, d, c.run)
					b.ReportMetric(c.flops*float64(b.N)/b.Elapsed().Seconds()/1e12, "TFLOP/s")
				})
			}
			if err := d.Err(); err != nil {
				b.Fatal(err)
			}
			d.pool.release()
		}
	}
}

// BenchmarkNormBackward compares ways to compute the gradients of RMSNorm and LayerNorm in bfloat16.
func BenchmarkNormBackward(b *testing.B) {
	d, err := Open(0, Options{Activations: device.BF16})
	if err != nil {
		b.Skip(err)
	}
	before := normBackwardChunks
	defer func() { normBackwardChunks = before }()
	for _, s := range []struct{ rows, dim int }{{8192, 2048}, {32768, 768}, {65536, 256}, {16384, 4096}} {
		n := s.rows * s.dim
		act := func() device.Buffer { x := d.New(device.BF16, n); d.Clear(x); return x }
		stat := func(n int) device.Buffer { x := d.New(device.F32, n); d.Clear(x); return x }
		dx, dy, x := act(), act(), act()
		w, dw, db, mean, inv := stat(s.dim), stat(s.dim), stat(s.dim), stat(s.rows), stat(s.rows)
		for _, chunks := range []int{1, 2, 3} {
			for _, layer := range []bool{false, true} {
				b.Run(fmt.Sprintf("rows=%d/dim=%d/layer=%v/chunks=%d", s.rows, s.dim, layer, chunks), func(b *testing.B) {
					normBackwardChunks = []int{chunks}
					repeated(b, d, func() {
						if layer {
							d.LayerNormBackward(dx, dw, db, dy, x, w, mean, inv, s.rows, s.dim, true)
						} else {
							d.RMSNormBackward(dx, dw, dy, x, w, inv, s.rows, s.dim, true)
						}
					})
					b.SetBytes(int64(4 * 2 * n))
					if err := d.Err(); err != nil {
						b.Fatal(err)
					}
				})
			}
		}
		for _, x := range []device.Buffer{dx, dy, x, w, dw, db, mean, inv} {
			d.Free(x)
		}
	}
}
