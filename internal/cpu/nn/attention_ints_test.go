package nn

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

var intsFormats = []simd.Ints{simd.I8, simd.I4}

// cached returns rows of heads of integers [batch, heads, rows, dim] in a cache with room for more.
func cached(f simd.Ints, seed uint64, batch, rows, heads, dim int) View {
	room := rows + 3
	v := View{Ints: f, Row: dim, Head: room * dim, Seq: heads * room * dim}
	v.Bytes, v.Scales = make([]byte, f.Bytes(batch*v.Seq)), cputest.Poisoned(batch*heads*room)
	values := cputest.Normal(seed, batch*heads*rows*dim)
	for b := range batch {
		for h := range heads {
			for t := range rows {
				bytes, scales := v.bytes(b, h, t)
				scales[0] = f.Encode(bytes, values[((b*heads+h)*rows+t)*dim:][:dim])
			}
		}
	}
	return v
}

// TestAttendInts holds attention over a cache of integers to its definition.
func TestAttendInts(t *testing.T) {
	for i, a := range slices.Concat(attentionCases, amxCases, sinkCases) {
		if cputest.Skipped(i) || a.HeadDim%2 > 0 {
			continue
		}
		a.Scale = float32(1 / math.Sqrt(float64(a.HeadDim)))
		for j, f := range intsFormats {
			if i < len(attentionCases) && i%2 == j {
				continue
			}
			want, got := newAttentionCase(a, true), newAttentionCase(a, true)
			got.k = cached(f, 2, a.Batch, a.Keys, a.KVHeads, a.HeadDim)
			got.v = cached(f, 3, a.Batch, a.Keys, a.KVHeads, a.HeadDim)
			AttendRef(a, want.out, want.lse, want.q, got.k, got.v)
			t.Run(fmt.Sprintf("case=%d/format=%d", i, f), func(t *testing.T) {
				cputest.OnPaths(t, func(t *testing.T) {
					out, lse := 3e-6, 2e-6
					if l := simd.Attention(); l != nil && l.Tiles[0].ScoreQuads != nil && a.HeadDim%simd.QuadElements == 0 {
						out, lse = 1e-4, 2e-4 // queries of 15 bits
					}
					cputest.EitherWay(func() {
						got.out = newAttentionCase(a, true).out
						got.run()
						cputest.Compare(t, "out", got.out.Data, want.out.Data, out)
						cputest.Compare(t, "lse", got.lse, want.lse, lse)
					})
					AttendF64(a, got.out, got.q, got.k, got.v)
					cputest.Compare(t, "out in float64", got.out.Data, want.out.Data, 1e-6)
				})
			})
		}
	}
}

func TestAttendIntsAllocatesNothing(t *testing.T) {
	defer pool.SetThreads(0)
	pool.SetThreads(2)
	for _, f := range intsFormats {
		for _, kvHeads := range []int{8, 1} {
			c := newAttentionCase(Attention{Batch: 2, Queries: 1, Keys: 1200, Heads: 8, KVHeads: kvHeads, HeadDim: 64, Scale: 1}, true)
			c.k, c.v = cached(f, 2, 2, 1200, kvHeads, 64), cached(f, 3, 2, 1200, kvHeads, 64)
			if n := testing.AllocsPerRun(20, c.run); n >= 1 {
				t.Errorf("decoding a cache of format %d, %d KV heads, allocates %v times", f, kvHeads, n)
			}
		}
	}
}
