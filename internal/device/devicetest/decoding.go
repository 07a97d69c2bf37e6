package devicetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/nn"
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
		{"one token, a window and sinks", device.Scores{Batch: 2, Queries: 1, Keys: 300, KeyLens: []int{300, 30}, Heads: 8, KVHeads: 2, HeadDim: 64, Causal: true, Window: 50, Sinks: 4}, false},
		{"40 tokens, a window and sinks", device.Scores{Batch: 2, Queries: 40, Keys: 40, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true, Window: 8, Sinks: 2}, false},
		{"40 tokens after others, a window and sinks", device.Scores{Batch: 1, Queries: 40, Keys: 70, Heads: 3, KVHeads: 1, HeadDim: 20, Causal: true, Window: 30, Sinks: 5}, false},
		{"40 tokens", device.Scores{Batch: 2, Queries: 40, Keys: 70, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true}, false},
		{"one token, heads of 192", device.Scores{Batch: 1, Queries: 1, Keys: 200, Heads: 20, KVHeads: 1, HeadDim: 192, Causal: true}, false},
		{"one token, heads of 320", device.Scores{Batch: 1, Queries: 1, Keys: 20, Heads: 2, KVHeads: 1, HeadDim: 320, Causal: true}, false},
		{"ALiBi, a window and sinks", device.Scores{Batch: 2, Queries: 3, Keys: 90, KeyLens: []int{90, 20}, Heads: 4, KVHeads: 2, HeadDim: 64, Causal: true, Window: 17, Sinks: 3, Slopes: slopes(4)}, false},
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

// decodedIntegers stores keys and values as integers, and attends to them.
func decodedIntegers(name string, s device.Scores, bias bool, f device.Format) operation {
	room, dim := s.Keys+3, s.HeadDim
	row := s.KVHeads * dim
	tokens := s.Batch * s.Keys * row
	in := values{
		"q": normal(3, s.Batch*s.Queries*s.Heads*dim), "k": normal(1, tokens), "v": normal(2, tokens),
		"out": nan(s.Batch * s.Queries * s.Heads * dim), "lse": nan(s.Batch * s.Heads * s.Queries),
	}
	o := decoded(name, s, bias, device.F32)
	for _, same := range []string{"bias", "sq"} {
		if x, ok := o.in[same]; ok {
			in[same] = x
		}
	}
	o.in = in
	o.run = func(d device.Device, b map[string]device.Buffer) {
		s := s
		s.Bias = b["bias"]
		heads := func(b device.Buffer) device.Heads {
			return device.Heads{Buffer: b, Seq: s.Queries * s.Heads * dim, Head: dim, Row: s.Heads * dim}
		}
		if s.Sinks > 0 {
			s.SinkQueries = heads(b["sq"])
		}
		k, v := newCache(d, f, s.Batch, s.KVHeads, room, dim), newCache(d, f, s.Batch, s.KVHeads, room, dim)
		d.Store(k, v, 0, b["k"], b["v"], s.Batch, s.Keys, dim)
		d.Attend(s, heads(b["out"]), b["lse"], heads(b["q"]), k, v)
	}
	o.ref = func(x values) {
		heads := func(x []float32, length, heads int) nn.View {
			return nn.View{Data: x, Seq: length * heads * dim, Head: dim, Row: heads * dim}
		}
		a := scores(s)
		a.Bias = x["bias"]
		if s.Sinks > 0 {
			a.SinkQueries = heads(x["sq"], s.Queries, s.Heads)
		}
		k, v := throughIntegers(f, x["k"], dim), throughIntegers(f, x["v"], dim)
		nn.AttendRef(a, heads(x["out"], s.Queries, s.Heads), x["lse"], heads(x["q"], s.Queries, s.Heads), heads(k, s.Keys, s.KVHeads), heads(v, s.Keys, s.KVHeads))
	}
	return o
}

// sinkQueries returns other queries than q where no sink is in the window.
func sinkQueries(s device.Scores, q []float32) []float32 {
	other, row := normal(6, len(q)), s.Heads*s.HeadDim
	for i := range s.Batch * s.Queries {
		end := s.Keys
		if s.KeyLens != nil {
			end = s.KeyLens[i/s.Queries]
		}
		if s.Causal {
			end += i%s.Queries + 1 - s.Queries
		}
		if end-s.Window < s.Sinks {
			copy(other[i*row:][:row], q[i*row:])
		}
	}
	return other
}

// scores are those of package nn, without a bias.
func scores(s device.Scores) nn.Attention {
	return nn.Attention{
		Batch: s.Batch, Queries: s.Queries, Keys: s.Keys, KeyLens: s.KeyLens, Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.HeadDim,
		ValueDim: s.ValueDim, Scale: s.Scale, Causal: s.Causal, Window: s.Window, Firsts: s.Firsts, Sinks: s.Sinks, Slopes: s.Slopes, CoarseSlopes: s.CoarseSlopes,
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
	if s.Sinks > 0 {
		in["sq"] = sinkQueries(s, in["q"])
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
			if s.Sinks > 0 {
				s.SinkQueries = rows(b["sq"])
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
			if s.Sinks > 0 {
				a.SinkQueries = rows(x["sq"])
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
// The cache has a format. Its first tokens are stored anew each time, at other positions.
func checkReplay(t *testing.T, d device.Device, f device.Format) {
	const seqs, heads, kvHeads, headDim, room, vocab, rounds, sinks = 2, 4, 2, 64, 40, 11, 5, 2
	const dim, kv = heads * headDim, kvHeads * headDim
	act := d.Activations()
	table, positions, w := put(d, act, normal(1, vocab*dim)), put(d, act, normal(2, room*dim)), put(d, act, normal(3, kv*dim))
	first := put(d, act, normal(4, seqs*sinks*kv)) // keys and values of the sinks
	rope := d.NewRope([]float64{1, 0.5, 0.1, 0.01}, room, 1, false)
	fused, _ := d.(device.Fused)
	type state struct {
		keys, values               device.Heads
		x, y, k, v, sunk, out, all device.Buffer
	}
	newState := func() state {
		cache := func() device.Heads {
			h := device.Heads{Buffer: d.New(f, seqs*kvHeads*room*headDim), Seq: kvHeads * room * headDim, Head: room * headDim, Row: headDim}
			if f.Scaled() {
				h = newCache(d, f, seqs, kvHeads, room, headDim)
			}
			return h
		}
		k, v, all := cache(), cache(), put(d, act, normal(5, seqs*room*kv))
		d.Store(k, v, 0, all, all, seqs, room, headDim)
		rows := func(n int) device.Buffer { return d.New(act, seqs*n) }
		return state{k, v, rows(dim), rows(dim), rows(kv), rows(kv), rows(sinks * kv), rows(dim), d.New(device.F32, seqs*dim)}
	}
	request := func(s state, r device.Replay) {
		d.Gather(s.x, table, r.IDs, dim)
		d.Gather(s.y, positions, r.Pos, dim)
		d.Add(s.x, s.x, s.y)
		d.Multiply(seqs, dim, s.x, []device.Product{{N: kv, Y: s.k, W: w}, {N: kv, Y: s.v, W: w}})
		q, k, v := device.Rows{Buffer: s.x, LD: dim}, device.Rows{Buffer: s.k, LD: kv}, device.Rows{Buffer: s.v, LD: kv}
		sunk := device.Rows{Buffer: first, LD: kv}
		if fused != nil {
			fused.RotateStore(rope, q, k, v, r.Pos, heads, headDim, s.keys, s.values, r.First, 1)
			fused.RotateStore(rope, device.Rows{}, sunk, sunk, r.Shift, 0, headDim, s.keys, s.values, 0, sinks)
		} else {
			d.Rotate(rope, q, q, r.Pos, heads, headDim, false)
			d.Rotate(rope, k, k, r.Pos, kvHeads, headDim, false)
			d.Store(s.keys, s.values, r.First, s.k, s.v, seqs, 1, headDim)
			d.Rotate(rope, device.Rows{Buffer: s.sunk, LD: kv}, sunk, r.Shift, kvHeads, headDim, false)
			d.Store(s.keys, s.values, 0, s.sunk, first, seqs, sinks, headDim)
		}
		view := func(b device.Buffer) device.Heads { return device.Heads{Buffer: b, Seq: dim, Head: headDim, Row: dim} }
		scores := device.Scores{
			Batch: seqs, Queries: 1, Keys: room, KeyLens: r.Lens, Heads: heads, KVHeads: kvHeads, HeadDim: headDim, Scale: 0.2, Causal: true,
			Slopes: []float32{0.5, 0.25, 0.125, 0.0625},
		}
		d.Attend(scores, view(s.out), device.Buffer{}, view(s.x), s.keys, s.values)
		d.Copy(s.all, s.out)
	}
	repeated, once := newState(), newState()
	r := &device.Replay{IDs: make([]int32, seqs), Pos: make([]int32, seqs), Shift: make([]int32, seqs*sinks), Lens: make([]int, seqs)}
	for round := range rounds {
		r.First = 3 + 2*round
		copy(r.IDs, ids(uint64(round), seqs, vocab))
		for i := range seqs {
			r.Pos[i], r.Lens[i] = int32(r.First+i), r.First+1
		}
		for i := range r.Shift {
			r.Shift[i] = int32(3*round + i)
		}
		d.(device.Replayer).Replay(r, func() { request(repeated, *r) })
		other := put(d, act, nan(seqs*dim)) // uses memory in between
		request(once, device.Replay{IDs: slices.Clone(r.IDs), Pos: slices.Clone(r.Pos), Shift: slices.Clone(r.Shift), Lens: slices.Clone(r.Lens), First: r.First})
		compare(t, fmt.Sprintf("round %d", round), d.Host(repeated.all), slices.Clone(d.Host(once.all)), 0)
		d.Free(other)
	}
	d.(device.Replayer).Forget(r)
}
