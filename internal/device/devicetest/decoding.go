package devicetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/nn"
	"gqa/internal/cpu/simd"
	"gqa/internal/device"
)

// formats are those of keys, values and weights.
var formats = map[device.Format]string{device.F32: "f32", device.BF16: "bf16", device.F16: "f16"}

// coarse returns n normally distributed numbers that each format can represent.
func coarse(seed uint64, n int) []float32 {
	x := normal(seed, n)
	for i := range x {
		x[i] = float32(math.Round(float64(x[i])*16) / 16)
	}
	return x
}

// put returns a buffer of numbers in a format.
func put(d device.Device, f device.Format, x []float32) device.Buffer {
	b := d.New(f, len(x))
	d.Write(b, x)
	return b
}

// decoding is attention of few queries to a cache's keys and values, with integers and with sinks if the device takes them.
func decoding(quantizes, sinks bool) (all []operation) {
	slopes := func(heads int) (s []float32) {
		for h := range heads {
			s = append(s, float32(math.Pow(2, -float64(h+1)/4)))
		}
		return s
	}
	for _, c := range []struct {
		name string
		s    device.Scores
		bias bool
	}{
		{"one token", device.Scores{Batch: 3, Queries: 1, Keys: 130, Heads: 4, KVHeads: 4, HeadDim: 64, Causal: true}, false},
		{"one token, long", device.Scores{Batch: 1, Queries: 1, Keys: 1500, Heads: 2, KVHeads: 2, HeadDim: 128, Causal: true}, false},
		{"one token, groups of 2", device.Scores{Batch: 2, Queries: 1, Keys: 333, KeyLens: []int{333, 5}, Heads: 4, KVHeads: 2, HeadDim: 96, Causal: true}, false},
		{"one token, groups of 4", device.Scores{Batch: 2, Queries: 1, Keys: 1100, KeyLens: []int{1, 1033}, Heads: 8, KVHeads: 2, HeadDim: 128, Causal: true}, false},
		{"one token, groups of 32", device.Scores{Batch: 2, Queries: 1, Keys: 1100, KeyLens: []int{1100, 400}, Heads: 32, KVHeads: 1, HeadDim: 64, Causal: true}, false},
		{"one token, heads of 256", device.Scores{Batch: 1, Queries: 1, Keys: 200, Heads: 8, KVHeads: 1, HeadDim: 256, Causal: true}, false},
		{"one token, heads of 80, a window", device.Scores{Batch: 2, Queries: 1, Keys: 700, KeyLens: []int{700, 90}, Heads: 6, KVHeads: 2, HeadDim: 80, Causal: true, Window: 100}, false},
		{"one token, odd heads", device.Scores{Batch: 2, Queries: 1, Keys: 77, Heads: 3, KVHeads: 1, HeadDim: 37, Causal: true}, false},
		{"3 tokens, groups of 4", device.Scores{Batch: 2, Queries: 3, Keys: 300, KeyLens: []int{2, 300}, Heads: 8, KVHeads: 2, HeadDim: 64, Causal: true}, false},
		{"3 tokens, a window", device.Scores{Batch: 2, Queries: 3, Keys: 300, KeyLens: []int{300, 4}, Heads: 4, KVHeads: 4, HeadDim: 64, Causal: true, Window: 7}, false},
		{"16 tokens, groups of 32", device.Scores{Batch: 1, Queries: 16, Keys: 150, Heads: 32, KVHeads: 1, HeadDim: 64, Causal: true}, false},
		{"16 tokens, a window", device.Scores{Batch: 2, Queries: 16, Keys: 90, Heads: 2, KVHeads: 2, HeadDim: 48, Causal: true, Window: 20}, false},
		{"16 tokens, a window and sinks", device.Scores{Batch: 2, Queries: 16, Keys: 90, KeyLens: []int{90, 40}, Heads: 4, KVHeads: 2, HeadDim: 48, Causal: true, Window: 20, Sinks: 3}, false},
		{"16 tokens see all, padding", device.Scores{Batch: 3, Queries: 16, Keys: 60, KeyLens: []int{60, 0, 33}, Heads: 4, KVHeads: 1, HeadDim: 32}, false},
		{"ALiBi", device.Scores{Batch: 2, Queries: 1, Keys: 200, KeyLens: []int{200, 100}, Heads: 8, KVHeads: 2, HeadDim: 64, Causal: true, Slopes: slopes(8)}, false},
		{"ALiBi, 3 tokens", device.Scores{Batch: 2, Queries: 3, Keys: 90, KeyLens: []int{90, 70}, Heads: 3, KVHeads: 3, HeadDim: 24, Causal: true, Slopes: slopes(3)}, false},
		{"coarse ALiBi", device.Scores{Batch: 1, Queries: 1, Keys: 300, Heads: 8, KVHeads: 1, HeadDim: 64, Causal: true, Slopes: slopes(8), CoarseSlopes: 0.125}, false},
		{"a bias", device.Scores{Batch: 2, Queries: 1, Keys: 300, Heads: 4, KVHeads: 2, HeadDim: 64}, true},
		{"a bias, 3 tokens", device.Scores{Batch: 2, Queries: 3, Keys: 100, KeyLens: []int{100, 40}, Heads: 4, KVHeads: 4, HeadDim: 64, Causal: true}, true},
	} {
		if c.s.Sinks > 0 && !sinks {
			continue
		}
		for f, name := range formats {
			c.s.Scale = float32(1 / math.Sqrt(float64(c.s.HeadDim)))
			all = append(all, decoded(c.name+", a cache in "+name, c.s, c.bias, f))
		}
		for f, name := range integers {
			if quantizes && (f != device.Int4 || c.s.HeadDim%2 == 0) {
				all = append(all, decodedIntegers(c.name+", a cache in "+name, c.s, c.bias, f))
			}
		}
	}
	return all
}

// integers are formats of keys and values for a device.Quantizer.
var integers = map[device.Format]string{device.Int8: "int8", device.Int4: "int4"}

// decodedIntegers stores keys and values as integers, and attends to them.
func decodedIntegers(name string, s device.Scores, bias bool, f device.Format) operation {
	room, dim := s.Keys+3, s.HeadDim
	row := s.KVHeads * dim
	tokens := s.Batch * s.Keys * row
	in := values{
		"q": normal(3, s.Batch*s.Queries*s.Heads*dim), "k": normal(1, tokens), "v": normal(2, tokens),
		"out": nan(s.Batch * s.Queries * s.Heads * dim), "lse": nan(s.Batch * s.Heads * s.Queries),
	}
	if bias {
		in["bias"] = normal(5, s.Heads*s.Queries*s.Keys)
	}
	o := decoded(name, s, bias, device.F32)
	o.in = in
	o.run = func(d device.Device, b map[string]device.Buffer) {
		s := s
		s.Bias = b["bias"]
		cache := func() device.Heads {
			rows := s.Batch * s.KVHeads * room
			return device.Heads{Buffer: d.New(f, rows*dim), Seq: s.KVHeads * room * dim, Head: room * dim, Row: dim, Scales: d.New(device.F32, rows)}
		}
		heads := func(b device.Buffer) device.Heads {
			return device.Heads{Buffer: b, Seq: s.Queries * s.Heads * dim, Head: dim, Row: s.Heads * dim}
		}
		k, v := cache(), cache()
		d.Store(k, v, 0, b["k"], b["v"], s.Batch, s.Keys, dim)
		d.Attend(s, heads(b["out"]), b["lse"], heads(b["q"]), k, v)
	}
	o.ref = func(x values) {
		heads := func(x []float32, length, heads int) nn.View {
			return nn.View{Data: x, Seq: length * heads * dim, Head: dim, Row: heads * dim}
		}
		a := scores(s)
		a.Bias = x["bias"]
		k, v := throughIntegers(f, x["k"], dim), throughIntegers(f, x["v"], dim)
		nn.AttendRef(a, heads(x["out"], s.Queries, s.Heads), x["lse"], heads(x["q"], s.Queries, s.Heads), heads(k, s.Keys, s.KVHeads), heads(v, s.Keys, s.KVHeads))
	}
	return o
}

// throughIntegers returns rows of dim numbers as they are after they were stored as integers.
func throughIntegers(f device.Format, x []float32, dim int) []float32 {
	ints := map[device.Format]simd.Ints{device.Int8: simd.I8, device.Int4: simd.I4}[f]
	y, row := make([]float32, len(x)), make([]byte, ints.Bytes(dim))
	for at := 0; at < len(x); at += dim {
		scale := ints.Encode(row, x[at:at+dim])
		for i := range dim {
			y[at+i] = float32(ints.Value(row, i, dim)) * scale
		}
	}
	return y
}

// scores are those of package nn, without a bias.
func scores(s device.Scores) nn.Attention {
	return nn.Attention{
		Batch: s.Batch, Queries: s.Queries, Keys: s.Keys, KeyLens: s.KeyLens, Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.HeadDim,
		Scale: s.Scale, Causal: s.Causal, Window: s.Window, Sinks: s.Sinks, Slopes: s.Slopes, CoarseSlopes: s.CoarseSlopes,
	}
}

// decoded is attention to a cache with room for more keys in a format. What is not a key is NaN.
func decoded(name string, s device.Scores, bias bool, f device.Format) operation {
	room, dim := s.Keys+3, s.HeadDim
	cache := func(seed uint64) []float32 {
		x := coarse(seed, s.Batch*s.KVHeads*room*dim)
		for row := range len(x) / dim {
			n := s.Keys
			if s.KeyLens != nil {
				n = s.KeyLens[row/room/s.KVHeads]
			}
			if row%room >= n {
				copy(x[row*dim:][:dim], nan(dim))
			}
		}
		return x
	}
	k, v := cache(1), cache(2)
	q := s.Batch * s.Queries * s.Heads * dim
	in := values{"q": normal(3, q), "out": nan(q), "lse": nan(s.Batch * s.Heads * s.Queries)}
	if bias {
		in["bias"] = normal(5, s.Heads*s.Queries*s.Keys)
	}
	return operation{
		"Attend decoded: " + name, in,
		func(d device.Device, b map[string]device.Buffer) {
			s := s
			s.Bias = b["bias"]
			rows := func(b device.Buffer) device.Heads {
				return device.Heads{Buffer: b, Seq: s.Queries * s.Heads * dim, Head: dim, Row: s.Heads * dim}
			}
			cached := func(x []float32) device.Heads {
				return device.Heads{Buffer: put(d, f, x), Seq: s.KVHeads * room * dim, Head: room * dim, Row: dim}
			}
			d.Attend(s, rows(b["out"]), b["lse"], rows(b["q"]), cached(k), cached(v))
		}, func(x values) {
			a := scores(s)
			a.Bias = x["bias"]
			rows := func(x []float32) nn.View {
				return nn.View{Data: x, Seq: s.Queries * s.Heads * dim, Head: dim, Row: s.Heads * dim}
			}
			cached := func(x []float32) nn.View {
				return nn.View{Data: x, Seq: s.KVHeads * room * dim, Head: room * dim, Row: dim}
			}
			nn.AttendRef(a, rows(x["out"]), x["lse"], rows(x["q"]), cached(k), cached(v))
		}, nil, 1e-4,
	}
}

// fewRows are products of few rows by several weights, in each format.
func fewRows() (all []operation) {
	for _, s := range []struct{ rows, k, first int }{
		{1, 256, 33},
		{2, 200, 33},
		{3, 70, 33},
		{4, 1000, 33},
		{5, 96, 33},
		{8, 1352, 33},
		{16, 512, 33},
		{17, 72, 33},
		{32, 264, 33},
		{33, 136, 33},
		{64, 64, 33},
		{3, 384, 8501},
		{16, 256, 11000}, // so many columns that a device may compute them in another way
	} {
		for f, name := range formats {
			ns := []int{s.first, 7, 64, 1, 40} // more than a launch may take
			in, weights := values{"x": normal(1, s.rows*s.k)}, [][]float32{}
			for i, n := range ns {
				weights = append(weights, coarse(uint64(2+i), n*s.k))
				in[fmt.Sprint("y", i)] = nan(s.rows * n)
			}
			all = append(all, operation{
				fmt.Sprintf("Multiply of [%d, %d] by %d columns in %s", s.rows, s.k, s.first, name), in,
				func(d device.Device, b map[string]device.Buffer) {
					var ps []device.Product
					for i, n := range ns {
						ps = append(ps, device.Product{N: n, Y: b[fmt.Sprint("y", i)], W: d.Load(f, slices.Clone(weights[i]), n, s.k, true)})
					}
					d.Multiply(s.rows, s.k, b["x"], ps)
				}, func(v values) {
					for i, n := range ns {
						y := v[fmt.Sprint("y", i)]
						for at := range y {
							sum := 0.0
							for j, x := range v["x"][at/n*s.k:][:s.k] {
								sum += float64(x) * float64(weights[i][at%n*s.k+j])
							}
							y[at] = float32(sum)
						}
					}
				}, nil, 1e-4,
			})
		}
	}
	return all
}

// checkReplay repeats operations with other inputs, and compares their results with those of operations that are requested one by one.
func checkReplay(t *testing.T, d device.Device) {
	const seqs, heads, kvHeads, headDim, room, vocab, rounds = 2, 4, 2, 32, 40, 11, 5
	const dim, kv = heads * headDim, kvHeads * headDim
	act := d.Activations()
	table, positions, w := put(d, act, normal(1, vocab*dim)), put(d, act, normal(2, room*dim)), put(d, act, normal(3, kv*dim))
	rope := d.NewRope([]float64{1, 0.5, 0.1, 0.01}, room, 1, false)
	type state struct {
		keys, values         device.Heads
		x, y, k, v, out, all device.Buffer
	}
	newState := func() state {
		cache := func() device.Heads {
			b := put(d, device.BF16, normal(4, seqs*kvHeads*room*headDim))
			return device.Heads{Buffer: b, Seq: kvHeads * room * headDim, Head: room * headDim, Row: headDim}
		}
		rows := func(n int) device.Buffer { return d.New(act, seqs*n) }
		return state{cache(), cache(), rows(dim), rows(dim), rows(kv), rows(kv), rows(dim), d.New(device.F32, seqs*dim)}
	}
	request := func(s state, ids, pos []int32, lens []int, first int) {
		d.Gather(s.x, table, ids, dim)
		d.Gather(s.y, positions, pos, dim)
		d.Add(s.x, s.x, s.y)
		d.Multiply(seqs, dim, s.x, []device.Product{{N: kv, Y: s.k, W: w}, {N: kv, Y: s.v, W: w}})
		q := device.Rows{Buffer: s.x, LD: dim}
		d.Rotate(rope, q, q, pos, heads, headDim, false)
		d.Store(s.keys, s.values, first, s.k, s.v, seqs, 1, headDim)
		view := func(b device.Buffer) device.Heads { return device.Heads{Buffer: b, Seq: dim, Head: headDim, Row: dim} }
		scores := device.Scores{
			Batch: seqs, Queries: 1, Keys: room, KeyLens: lens, Heads: heads, KVHeads: kvHeads, HeadDim: headDim, Scale: 0.2, Causal: true,
			Slopes: []float32{0.5, 0.25, 0.125, 0.0625},
		}
		d.Attend(scores, view(s.out), device.Buffer{}, view(s.x), s.keys, s.values)
		d.Copy(s.all, s.out)
	}
	repeated, once := newState(), newState()
	r := &device.Replay{IDs: make([]int32, seqs), Pos: make([]int32, seqs), Lens: make([]int, seqs)}
	for round := range rounds {
		r.First = 3 + 2*round
		copy(r.IDs, ids(uint64(round), seqs, vocab))
		for i := range seqs {
			r.Pos[i], r.Lens[i] = int32(r.First+i), r.First+1
		}
		first := r.First
		d.(device.Replayer).Replay(r, func() { request(repeated, r.IDs, r.Pos, r.Lens, first) })
		other := put(d, act, nan(seqs*dim)) // uses memory in between
		request(once, slices.Clone(r.IDs), slices.Clone(r.Pos), slices.Clone(r.Lens), first)
		compare(t, fmt.Sprintf("round %d", round), d.Host(repeated.all), slices.Clone(d.Host(once.all)), 0)
		d.Free(other)
	}
	d.(device.Replayer).Forget(r)
}
