package nn

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/cputest"
	"gqa/internal/cpu/pool"
	"gqa/internal/cpu/simd"
)

// attentionCase is an attention with its operands. Rows lie [batch, row, head, dim] in slices with gaps of NaN.
type attentionCase struct {
	Attention
	q, k, v, out, dout, dq, dk, dv View
	lse                            []float32
}

// newView returns a view of [batch, rows, heads, dim] with gaps; headsFirst lays it out as [batch, heads, rows, dim].
func newView(seed uint64, batch, rows, heads, dim int, headsFirst bool) View {
	width := dim + 3
	v := View{Row: heads * width, Head: width, Seq: rows*heads*width + 5}
	if headsFirst {
		v.Row, v.Head = width, rows*width
	}
	v.Data = cputest.Poisoned(batch * v.Seq)
	if seed == 0 {
		return v
	}
	values := cputest.Normal(seed, batch*rows*heads*dim)
	for b := range batch {
		for t := range rows {
			for h := range heads {
				copy(v.at(b, h, t)[:dim], values[((b*rows+t)*heads+h)*dim:])
			}
		}
	}
	return v
}

func newAttentionCase(a Attention, headsFirst bool) *attentionCase {
	if a.Bias != nil {
		a.BiasGrad = cputest.Normal(8, len(a.Bias))
	}
	query := func(seed uint64, dim int) View { return newView(seed, a.Batch, a.Queries, a.Heads, dim, headsFirst) }
	key := func(seed uint64, dim int) View { return newView(seed, a.Batch, a.Keys, a.KVHeads, dim, headsFirst) }
	d, e := a.HeadDim, a.valueDim()
	return &attentionCase{
		Attention: a, q: query(1, d), k: key(2, d), v: key(3, e), out: query(0, e), dout: query(4, e), dq: query(0, d), dk: key(0, d), dv: key(0, e),
		lse: cputest.Poisoned(a.Batch * a.Heads * a.Queries),
	}
}

func (c *attentionCase) run() { Attend(c.Attention, c.out, c.lse, c.q, c.k, c.v) }

func (c *attentionCase) runBackward() {
	AttendBackward(c.Attention, c.dq, c.dk, c.dv, c.dout, c.out, c.lse, c.q, c.k, c.v)
}

func (c *attentionCase) ref() *attentionCase {
	r := newAttentionCase(c.Attention, c.q.Row == c.HeadDim+3)
	AttendRef(r.Attention, r.out, r.lse, r.q, r.k, r.v)
	AttendBackwardRef(r.Attention, r.dq, r.dk, r.dv, r.dout, r.out, r.lse, r.q, r.k, r.v)
	return r
}

var attentionCases = []Attention{
	{Batch: 1, Queries: 1, Keys: 1, Heads: 1, KVHeads: 1, HeadDim: 1},
	{Batch: 2, Queries: 5, Keys: 5, Heads: 4, KVHeads: 4, HeadDim: 16, Causal: true},
	{Batch: 1, Queries: 70, Keys: 70, Heads: 4, KVHeads: 2, HeadDim: 33, Causal: true},
	{Batch: 2, Queries: 33, Keys: 150, Heads: 8, KVHeads: 2, HeadDim: 20, Causal: true},
	{Batch: 1, Queries: 140, Keys: 141, Heads: 8, KVHeads: 1, HeadDim: 24},
	{Batch: 3, Queries: 40, Keys: 64, Heads: 8, KVHeads: 4, HeadDim: 8, KeyLens: []int{64, 17, 1}},
	{Batch: 3, Queries: 20, Keys: 40, Heads: 2, KVHeads: 1, HeadDim: 12, KeyLens: []int{40, 11, 0}, Causal: true},
	{Batch: 2, Queries: 1, Keys: 1100, Heads: 8, KVHeads: 2, HeadDim: 32, KeyLens: []int{1100, 600}, Causal: true},
	{Batch: 1, Queries: 3, Keys: 700, Heads: 8, KVHeads: 1, HeadDim: 20, Causal: true},
	{Batch: 2, Queries: 1, Keys: 530, Heads: 4, KVHeads: 4, HeadDim: 64},
	{Batch: 2, Queries: 1, Keys: 301, Heads: 6, KVHeads: 3, HeadDim: 80, KeyLens: []int{301, 0}},
	{Batch: 1, Queries: 1, Keys: 140, Heads: 7, KVHeads: 1, HeadDim: 96, Causal: true},
	{Batch: 1, Queries: 1, Keys: 1050, Heads: 12, KVHeads: 1, HeadDim: 112, Causal: true, Window: 900},
	{Batch: 3, Queries: 1, Keys: 33, Heads: 32, KVHeads: 2, HeadDim: 128, KeyLens: []int{1, 33, 20}},
	{Batch: 1, Queries: 1, Keys: 90, Heads: 17, KVHeads: 1, HeadDim: 48},
	{Batch: 1, Queries: 1, Keys: 45, Heads: 2, KVHeads: 2, HeadDim: 64},
	{Batch: 1, Queries: 1, Keys: 47, Heads: 4, KVHeads: 1, HeadDim: 32},
	{Batch: 2, Queries: 150, Keys: 290, Heads: 4, KVHeads: 2, HeadDim: 16, KeyLens: []int{290, 170}, Causal: true, Window: 37},
	{Batch: 2, Queries: 1, Keys: 1300, Heads: 4, KVHeads: 1, HeadDim: 16, Causal: true, Window: 600},
	{Batch: 2, Queries: 40, Keys: 150, Heads: 4, KVHeads: 4, HeadDim: 8, Causal: true, Slopes: []float32{0.5, 0.25, 0.125, 0.0625}},
	{
		Batch: 2, Queries: 40, Keys: 300, Heads: 4, KVHeads: 2, HeadDim: 8, KeyLens: []int{300, 170}, Causal: true,
		Slopes: []float32{0.7071, 0.25, 0.0123, 0.0625}, CoarseSlopes: 0.3,
	},
	{Batch: 1, Queries: 1, Keys: 300, Heads: 2, KVHeads: 1, HeadDim: 16, Causal: true, Slopes: []float32{0.7071, 0.35}, CoarseSlopes: 0.25},
	{Batch: 3, Queries: 30, Keys: 140, Heads: 4, KVHeads: 2, HeadDim: 8, KeyLens: []int{140, 60, 1}, Bias: cputest.Normal(7, 4*30*140)},
	{
		Batch: 2, Queries: 2, Keys: 700, Heads: 4, KVHeads: 1, HeadDim: 8, KeyLens: []int{700, 600}, Causal: true, Window: 530,
		Slopes: []float32{0.5, 0.25, 0.125, 0.0625}, Bias: cputest.Normal(7, 4*2*700),
	},
	{Batch: 2, Queries: 300, Keys: 300, Heads: 4, KVHeads: 2, HeadDim: 16, Causal: true, Firsts: firsts(300, []int{0, 1, 2, 40, 41, 200}, []int{0, 150})},
	{Batch: 1, Queries: 150, Keys: 150, Heads: 4, KVHeads: 1, HeadDim: 20, Causal: true, Window: 30, Firsts: firsts(150, []int{0, 10, 131})},
	{
		Batch: 2, Queries: 70, Keys: 70, Heads: 2, KVHeads: 1, HeadDim: 8, Causal: true, Firsts: firsts(70, []int{0, 33}, []int{0, 69}),
		Slopes: []float32{0.7071, 0.25}, CoarseSlopes: 0.3,
	},
	{
		Batch: 1, Queries: 40, Keys: 40, Heads: 2, KVHeads: 2, HeadDim: 8, Causal: true, Firsts: firsts(40, []int{0, 5, 6, 7}),
		Slopes: []float32{0.7071, 0.25}, Bias: cputest.Normal(7, 2*40*40),
	},
	// Values of another width than keys.
	{Batch: 2, Queries: 70, Keys: 70, Heads: 4, KVHeads: 4, HeadDim: 24, ValueDim: 12, Causal: true},
	{Batch: 1, Queries: 33, Keys: 150, Heads: 8, KVHeads: 2, HeadDim: 20, ValueDim: 36, Causal: true, Window: 40},
	{Batch: 2, Queries: 1, Keys: 1100, Heads: 8, KVHeads: 1, HeadDim: 96, ValueDim: 64, KeyLens: []int{1100, 600}, Causal: true},
	{Batch: 1, Queries: 1, Keys: 530, Heads: 4, KVHeads: 2, HeadDim: 32, ValueDim: 80},
	{Batch: 2, Queries: 1, Keys: 77, Heads: 6, KVHeads: 1, HeadDim: 28, ValueDim: 20, Causal: true},
}

// firsts returns the starts of the documents of every token, given those of the sequences.
func firsts(n int, starts ...[]int) (all []int32) {
	for _, of := range starts {
		for i := range n {
			at := 0
			for _, start := range of {
				if start <= i {
					at = start
				}
			}
			all = append(all, int32(at))
		}
	}
	return all
}

// TestDocuments: attention over several documents, and its gradient, are those of each document alone.
func TestDocuments(t *testing.T) {
	const n, heads, kv, dim = 90, 4, 2, 16
	starts := []int{0, 1, 30, 77}
	a := Attention{Batch: 1, Queries: n, Keys: n, Heads: heads, KVHeads: kv, HeadDim: dim, Causal: true, Scale: 0.25, Firsts: firsts(n, starts)}
	c := newAttentionCase(a, false)
	c.run()
	c.runBackward()
	for i, from := range starts {
		to := n
		if i+1 < len(starts) {
			to = starts[i+1]
		}
		alone := newAttentionCase(a, false)
		alone.Firsts, alone.Queries, alone.Keys, alone.lse = nil, to-from, to-from, make([]float32, heads*(to-from))
		for _, v := range []*View{&alone.q, &alone.k, &alone.v, &alone.out, &alone.dout, &alone.dq, &alone.dk, &alone.dv} {
			v.Data = v.Data[from*v.Row:]
		}
		alone.run()
		alone.runBackward()
		for _, v := range []struct {
			name      string
			got, want View
			heads     int
		}{{"out", c.out, alone.out, heads}, {"dq", c.dq, alone.dq, heads}, {"dk", c.dk, alone.dk, kv}, {"dv", c.dv, alone.dv, kv}} {
			for r := range to - from {
				for h := range v.heads {
					cputest.Compare(t, v.name, v.got.at(0, h, from+r)[:dim], v.want.at(0, h, r)[:dim], 2e-6)
				}
			}
		}
	}
}

var sinkCases = []Attention{
	{Batch: 2, Queries: 1, Keys: 1300, Heads: 4, KVHeads: 1, HeadDim: 16, Causal: true, Window: 600, Sinks: 3},
	{Batch: 2, Queries: 300, Keys: 300, Heads: 4, KVHeads: 2, HeadDim: 16, KeyLens: []int{300, 170}, Causal: true, Window: 37, Sinks: 4},
	{Batch: 1, Queries: 290, Keys: 300, Heads: 2, KVHeads: 2, HeadDim: 32, Causal: true, Window: 20, Sinks: 150},
	{Batch: 1, Queries: 9, Keys: 9, Heads: 2, KVHeads: 1, HeadDim: 8, Causal: true, Window: 30, Sinks: 2},
}

// TestAttendSinks has no backward pass.
func TestAttendSinks(t *testing.T) {
	for i, a := range sinkCases {
		a.Scale = float32(1 / math.Sqrt(float64(a.HeadDim)))
		if i%2 == 0 {
			a.SinkQueries = newView(9, a.Batch, a.Queries, a.Heads, a.HeadDim, true)
		}
		want := newAttentionCase(a, i%2 == 0)
		AttendRef(a, want.out, want.lse, want.q, want.k, want.v)
		t.Run(fmt.Sprintf("case=%d", i), func(t *testing.T) {
			cputest.OnPaths(t, func(t *testing.T) {
				c := newAttentionCase(a, i%2 == 0)
				c.run()
				cputest.Compare(t, "out", c.out.Data, want.out.Data, 3e-6)
				cputest.Compare(t, "lse", c.lse, want.lse, 2e-6)
				AttendF64(a, c.out, c.q, c.k, c.v)
				cputest.Compare(t, "out in float64", c.out.Data, want.out.Data, 1e-6)
			})
		})
	}
}

func TestAttend(t *testing.T) {
	for i, a := range attentionCases {
		if cputest.Skipped(i) {
			continue
		}
		a.Scale = float32(1 / math.Sqrt(float64(a.HeadDim)))
		c := newAttentionCase(a, i%2 == 0)
		want := c.ref()
		t.Run(fmt.Sprintf("case=%d", i), func(t *testing.T) {
			cputest.OnPaths(t, func(t *testing.T) {
				c := newAttentionCase(a, i%2 == 0)
				c.run()
				cputest.Compare(t, "out", c.out.Data, want.out.Data, 3e-6)
				cputest.Compare(t, "lse", c.lse, want.lse, 2e-6)
				c.runBackward()
				cputest.Compare(t, "dq", c.dq.Data, want.dq.Data, 1e-5)
				cputest.Compare(t, "dk", c.dk.Data, want.dk.Data, 1e-5)
				cputest.Compare(t, "dv", c.dv.Data, want.dv.Data, 1e-5)
				cputest.Compare(t, "bias gradient", c.BiasGrad, want.BiasGrad, 1e-5)
			})
		})
	}
}

// encoded returns v in the format h, and the numbers of that in float32.
func encoded(h simd.Half, v View) (half, full View) {
	half, full = v, v
	half.Data, half.Half, half.Format = nil, make([]uint16, len(v.Data)), h
	blas.EncodeHalf(h, half.Half, v.Data)
	full.Data = make([]float32, len(v.Data))
	blas.DecodeHalf(h, full.Data, half.Half)
	return half, full
}

// tileCases are suited to matrix instructions, or to pairs of bfloat16.
var amxCases = []Attention{
	{Batch: 2, Queries: 1, Keys: 333, Heads: 8, KVHeads: 4, HeadDim: 96, KeyLens: []int{333, 5}},
	{Batch: 1, Queries: 1, Keys: 50, Heads: 3, KVHeads: 3, HeadDim: 160},
	{Batch: 2, Queries: 1, Keys: 1100, Heads: 16, KVHeads: 1, HeadDim: 64, KeyLens: []int{1100, 1}},
	{Batch: 1, Queries: 1, Keys: 700, Heads: 16, KVHeads: 2, HeadDim: 128, Causal: true, Window: 610},
	{Batch: 3, Queries: 1, Keys: 303, Heads: 10, KVHeads: 2, HeadDim: 64, KeyLens: []int{303, 0, 31}},
	{Batch: 1, Queries: 1, Keys: 288, Heads: 11, KVHeads: 1, HeadDim: 192},
}

// TestAttendHalf holds attention over an encoded cache to its definition and, but for tiles and pairs of bfloat16, bit by bit to that
// over the same numbers decoded before.
func TestAttendHalf(t *testing.T) {
	for i, a := range slices.Concat(attentionCases, amxCases, amxCases) {
		if cputest.Skipped(i) {
			continue
		}
		a.Scale = float32(1 / math.Sqrt(float64(a.HeadDim)))
		h := halfFormats[i%2]
		if i >= len(attentionCases)+len(amxCases) {
			h = simd.BF16
		}
		want, plain, got := newAttentionCase(a, true), newAttentionCase(a, true), newAttentionCase(a, true)
		got.k, plain.k = encoded(h, got.k)
		got.v, plain.v = encoded(h, got.v)
		AttendRef(a, want.out, want.lse, want.q, got.k, got.v)
		t.Run(fmt.Sprintf("case=%d", i), func(t *testing.T) {
			cputest.OnPaths(t, func(t *testing.T) {
				pairs := h == simd.BF16 && simd.AMX() == nil && simd.Attention() != nil && simd.Attention().Tiles[0].ScorePairs != nil &&
					a.Queries == 1 && a.HeadDim%(2*simd.MaxLanes) == 0 && a.group() <= simd.MaxLanes && a.Slopes == nil && a.Bias == nil
				out, lse := 3e-6, 2e-6
				if pairs { // queries of 17 bits
					out, lse = 8e-6, 4e-6
				}
				cputest.EitherWay(func() {
					got.out, plain.out = newAttentionCase(a, true).out, newAttentionCase(a, true).out
					got.run()
					plain.run()
					cputest.Compare(t, "out", got.out.Data, want.out.Data, out)
					cputest.Compare(t, "lse", got.lse, want.lse, lse)
					if simd.AMX() == nil && !pairs {
						cputest.Same(t, "out", written(a, got.out), written(a, plain.out))
					}
				})
			})
		})
	}
}

// TestAttendFormats has keys and values of different formats.
func TestAttendFormats(t *testing.T) {
	a := Attention{Batch: 2, Queries: 1, Keys: 77, Heads: 8, KVHeads: 4, HeadDim: 64, Scale: 0.125}
	in := func(h simd.Half, v View) View {
		if h == simd.F32 {
			return v
		}
		half, _ := encoded(h, v)
		return half
	}
	cputest.OnPaths(t, func(t *testing.T) {
		for _, formats := range [][2]simd.Half{{simd.BF16, simd.F16}, {simd.F16, simd.BF16}, {simd.BF16, simd.F32}, {simd.F32, simd.BF16}} {
			want, got := newAttentionCase(a, false), newAttentionCase(a, false)
			got.k, got.v = in(formats[0], got.k), in(formats[1], got.v)
			AttendRef(a, want.out, want.lse, want.q, got.k, got.v)
			got.run()
			cputest.Compare(t, fmt.Sprintf("formats %d: out", formats), got.out.Data, want.out.Data, 8e-6)
		}
	})
}

// TestSplitBF16 holds the sum of the two parts of a number to it.
func TestSplitBF16(t *testing.T) {
	for _, x := range append(cputest.Normal(1, 1000), 0, 1, -1, 1.9999999, 1<<20+1, -3e-20) {
		upper, lower := splitBF16(x)
		parts := make([]float32, 2)
		blas.DecodeHalf(simd.BF16, parts, []uint16{upper, lower})
		if got := float64(parts[0]) + float64(parts[1]); math.Abs(got-float64(x)) > math.Abs(float64(x))/(1<<17) {
			t.Errorf("%g in two is %g", x, got)
		}
	}
	if upper, _ := splitBF16(math.Float32frombits(0x7fffffff)); upper&0x7fff <= 0x7f80 {
		t.Errorf("a NaN in two is %04x", upper)
	}
}

// written returns the rows of out without the gaps.
func written(a Attention, out View) (s []float32) {
	a.eachRow(func(b, h, _, i int) { s = append(s, out.at(b, h, i)[:a.valueDim()]...) })
	return s
}

// TestAttendGroups holds grouped heads to plain heads with every kv head repeated.
func TestAttendGroups(t *testing.T) {
	for _, kvHeads := range []int{8, 4, 2, 1} {
		a := Attention{Batch: 2, Queries: 6, Keys: 9, Heads: 8, KVHeads: kvHeads, HeadDim: 16, Scale: 0.25, Causal: true}
		c := newAttentionCase(a, false)
		c.run()
		a.KVHeads = 8
		plain := newAttentionCase(a, false)
		for b := range 2 {
			for h := range 8 {
				for j := range 9 {
					copy(plain.k.at(b, h, j)[:16], c.k.at(b, h*kvHeads/8, j))
					copy(plain.v.at(b, h, j)[:16], c.v.at(b, h*kvHeads/8, j))
				}
			}
		}
		plain.run()
		cputest.Compare(t, fmt.Sprintf("%d kv heads: out", kvHeads), c.out.Data, plain.out.Data, 1e-6)
	}
}

// TestAttendPrefix has values that are the first numbers of the keys, in the same memory, as a cache of latents has them.
func TestAttendPrefix(t *testing.T) {
	for _, a := range []Attention{
		{Batch: 2, Queries: 1, Keys: 700, Heads: 16, KVHeads: 1, HeadDim: 80, ValueDim: 64, Scale: 0.2, KeyLens: []int{700, 45}, Causal: true},
		{Batch: 2, Queries: 1, Keys: 90, Heads: 40, KVHeads: 1, HeadDim: 72, ValueDim: 64, Scale: 0.2, Causal: true},
		{Batch: 1, Queries: 5, Keys: 90, Heads: 4, KVHeads: 1, HeadDim: 44, ValueDim: 32, Scale: 0.2, Causal: true, Window: 30},
	} {
		c := newAttentionCase(a, true)
		c.k.Row, c.k.Head, c.k.Seq = a.HeadDim, a.Keys*a.HeadDim, a.Keys*a.HeadDim
		c.k.Data = cputest.Normal(3, a.Batch*c.k.Seq)
		quantized := c.k
		quantized.Data, quantized.Ints, quantized.Bytes, quantized.Scales = nil, simd.I8, make([]byte, len(c.k.Data)), make([]float32, a.Batch*a.Keys)
		for i := range quantized.Scales {
			quantized.Scales[i] = simd.I8.Encode(quantized.Bytes[i*a.HeadDim:], c.k.Data[i*a.HeadDim:][:a.HeadDim])
		}
		half, _ := encoded(simd.BF16, c.k)
		cputest.OnPaths(t, func(t *testing.T) {
			for _, k := range []View{c.k, half, quantized} {
				want, got := newAttentionCase(a, true), newAttentionCase(a, true)
				AttendRef(a, want.out, want.lse, want.q, k, k)
				Attend(a, got.out, got.lse, got.q, k, k)
				tolerance := 8e-6
				if k.Ints != 0 { // queries of 15 bits
					tolerance = 3e-4
				}
				cputest.Compare(t, fmt.Sprintf("%d keys: out", a.Keys), got.out.Data, want.out.Data, tolerance)
			}
		})
	}
}

func TestAttendGradients(t *testing.T) {
	a := Attention{
		Batch: 2, Queries: 7, Keys: 11, Heads: 4, KVHeads: 2, HeadDim: 6, ValueDim: 5, Scale: 0.4, KeyLens: []int{11, 8}, Causal: true, Window: 6,
		Slopes: []float32{0.5, 0.25, 0.125, 0.0625}, Bias: cputest.Normal(7, 4*7*11),
	}
	cputest.OnPaths(t, func(t *testing.T) {
		c := newAttentionCase(a, false)
		clear(c.BiasGrad)
		c.run()
		c.runBackward()
		probe := newAttentionCase(a, false)
		loss := func() float64 {
			AttendRef(a, probe.out, nil, c.q, c.k, c.v)
			sum := 0.0
			for i, v := range probe.out.Data {
				if v == v {
					sum += float64(v) * float64(c.dout.Data[i])
				}
			}
			return sum
		}
		check := func(what string, x, grad View, heads, rows, headDim int) {
			for b := range 2 {
				for h := range heads {
					for r := 0; r < rows; r += 3 {
						cputest.CheckGradient(t, what, x.at(b, h, r)[:headDim], grad.at(b, h, r)[:headDim], 2e-3, loss)
					}
				}
			}
		}
		check("dq", c.q, c.dq, 4, 7, 6)
		check("dk", c.k, c.dk, 2, 11, 6)
		check("dv", c.v, c.dv, 2, 11, 5)
		cputest.CheckGradient(t, "bias gradient", a.Bias, c.BiasGrad, 2e-3, loss)
	})
}

func TestAttendThreads(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		for _, a := range []Attention{
			{Batch: 1, Queries: 90, Keys: 90, Heads: 4, KVHeads: 1, HeadDim: 16, Scale: 0.25, Causal: true},
			{Batch: 2, Queries: 9, Keys: 20, Heads: 4, KVHeads: 2, HeadDim: 8, Scale: 0.25, Bias: cputest.Normal(7, 4*9*20)},
			{Batch: 1, Queries: 1, Keys: 2000, Heads: 4, KVHeads: 1, HeadDim: 16, Scale: 0.25},
		} {
			cputest.WithThreads(t, func() []float32 {
				c := newAttentionCase(a, true)
				c.run()
				c.runBackward()
				return slices.Concat(c.out.Data, c.lse, c.dq.Data, c.dk.Data, c.dv.Data, c.BiasGrad)
			})
		}
		cputest.WithThreads(t, func() []float32 {
			c := newAttentionCase(Attention{Batch: 1, Queries: 1, Keys: 2000, Heads: 8, KVHeads: 1, HeadDim: 64, Scale: 0.1}, true)
			c.k, _ = encoded(simd.BF16, c.k)
			c.v, _ = encoded(simd.BF16, c.v)
			c.run()
			return slices.Concat(written(c.Attention, c.out), c.lse)
		})
	})
}

// TestAttendLargeScores has scores whose exponentials overflow, and a largest score that comes last.
func TestAttendLargeScores(t *testing.T) {
	cputest.OnPaths(t, func(t *testing.T) {
		const keys = 700
		for _, dim := range []int{4, 16} {
			a := Attention{Batch: 1, Queries: 1, Keys: keys, Heads: 2, KVHeads: 1, HeadDim: dim, Scale: 1}
			c := newAttentionCase(a, false)
			want := make([]float32, dim)
			copy(want, []float32{keys - 1, 1, 2, 3})
			for j := range keys {
				copy(c.k.at(0, 0, j), append([]float32{float32(j)}, make([]float32, dim-1)...))
				copy(c.v.at(0, 0, j), append([]float32{float32(j)}, want[1:]...))
			}
			copy(c.q.at(0, 0, 0), append([]float32{10}, make([]float32, dim-1)...))
			copy(c.q.at(0, 1, 0), append([]float32{-10}, make([]float32, dim-1)...))
			c.run()
			cputest.Compare(t, "out", c.out.at(0, 0, 0)[:dim], want, 1e-4)
			want[0] = 0
			cputest.Compare(t, "out of the other head", c.out.at(0, 1, 0)[:dim], want, 1e-4)
			cputest.Compare(t, "lse", c.lse, []float32{10 * (keys - 1), 4.5e-5}, 1e-5)
		}
	})
}

func TestAttendAllocatesNothing(t *testing.T) {
	defer pool.SetThreads(0)
	for _, threads := range []int{1, 2} {
		pool.SetThreads(threads)
		c := newAttentionCase(Attention{Batch: 2, Queries: 1, Keys: 1200, Heads: 8, KVHeads: 2, HeadDim: 32, Scale: 1}, true)
		if n := testing.AllocsPerRun(20, c.run); n >= 1 {
			t.Errorf("decoding with %d threads allocates %v times", threads, n)
		}
		for _, dim := range []int{32, 64} {
			c := newAttentionCase(Attention{Batch: 2, Queries: 1, Keys: 1200, Heads: 16, KVHeads: 2, HeadDim: dim, Scale: 1}, true)
			c.k, _ = encoded(simd.BF16, c.k)
			c.v, _ = encoded(simd.BF16, c.v)
			if n := testing.AllocsPerRun(20, c.run); n >= 1 {
				t.Errorf("decoding a cache in bf16 with %d threads and dim %d allocates %v times", threads, dim, n)
			}
		}
	}
}

// Once Stop says so no further tile is computed.
func TestAttendStops(t *testing.T) {
	pool.SetThreads(1)
	defer pool.SetThreads(0)
	asked := 0
	a := Attention{Batch: 1, Queries: 1000, Keys: 1000, Heads: 1, KVHeads: 1, HeadDim: 4, Scale: 1, Stop: func() bool { asked++; return asked > 1 }}
	for name, attend := range map[string]func(c *attentionCase){
		"Attend":    func(c *attentionCase) { c.run() },
		"AttendF64": func(c *attentionCase) { AttendF64(c.Attention, c.out, c.q, c.k, c.v) },
	} {
		asked = 0
		c := newAttentionCase(a, false)
		last := c.out.at(0, 0, 999)[:4]
		fill(last, 7)
		attend(c)
		first := c.out.at(0, 0, 0)[:4]
		if math.IsNaN(float64(first[0])) || slices.ContainsFunc(last, func(x float32) bool { return x != 7 }) {
			t.Errorf("%s: the first row is %v, the last %v", name, first, last)
		}
	}
}
