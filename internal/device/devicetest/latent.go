package devicetest

import (
	"fmt"
	"slices"

	"gqa/internal/cpu/nn"
	"gqa/internal/device"
)

// latent are the operations that latent attention needs: on the parts of heads, and attention to a cache whose values are the first
// numbers of the keys.
func latent(quantizes bool) (all []operation) {
	all = slices.Concat(headParts(), headProducts())
	for _, s := range []device.Scores{
		{Batch: 2, Queries: 1, Keys: 700, KeyLens: []int{700, 45}, Heads: 16, KVHeads: 1, HeadDim: 80, ValueDim: 64, Scale: 0.1, Causal: true},
		{Batch: 2, Queries: 1, Keys: 90, Heads: 24, KVHeads: 1, HeadDim: 576, ValueDim: 512, Scale: 0.04, Causal: true},
		{Batch: 2, Queries: 3, Keys: 130, KeyLens: []int{130, 20}, Heads: 6, KVHeads: 1, HeadDim: 27, ValueDim: 20, Scale: 0.2, Causal: true, Window: 30},
	} {
		for f, name := range formats {
			all = append(all, attendPrefix(name, s, f))
		}
		if quantizes {
			all = append(all, attendPrefix("int8", s, device.Int8))
		}
	}
	return all
}

// headParts join and split heads of columns of a matrix.
func headParts() (all []operation) {
	const rows, heads, m, n, gap = 7, 3, 10, 6, 5
	for _, shared := range []bool{false, true} {
		width := heads * n
		if shared {
			width = n
		}
		in := values{
			"a": normal(1, rows*(heads*m+gap)), "b": normal(2, rows*(width+gap)), "y": nan(rows * heads * (m + n)), "dy": normal(3, rows*heads*(m+n)),
			"da": normal(4, rows*(heads*m+gap)), "db": normal(5, rows*(width+gap)), "z": nan(rows * heads * (m + n)), "z2": nan(rows * heads * (m + n)),
		}
		lds := map[string]int{"a": heads*m + gap, "b": width + gap, "y": heads * (m + n)}
		for of, name := range map[string]string{"a": "da", "b": "db", "y": "dy"} {
			lds[name] = lds[of]
		}
		lds["z"], lds["z2"] = lds["y"], lds["y"]
		// at returns where number i of a head's part in b is.
		at := func(r, h, i int) int {
			if shared {
				h = 0
			}
			return r*lds["b"] + h*n + i
		}
		all = append(all, operation{
			fmt.Sprintf("Heads joined and split, shared %v", shared), in,
			func(d device.Device, b map[string]device.Buffer) {
				of := func(name string) device.Rows { return device.Rows{Buffer: b[name], LD: lds[name]} }
				d.JoinHeads(of("y"), of("a"), of("b"), rows, heads, m, n, shared)
				d.SplitHeads(of("da"), of("db"), of("dy"), rows, heads, m, n, shared)
				d.JoinHeads(of("z"), of("a"), device.Rows{}, rows, heads, m, n, shared)
				d.JoinHeads(of("z2"), device.Rows{}, of("b"), rows, heads, m, n, shared)
				d.SplitHeads(of("da"), device.Rows{}, of("dy"), rows, heads, m, n, shared)
				d.SplitHeads(device.Rows{}, of("db"), of("dy"), rows, heads, m, n, shared)
			}, func(v values) {
				for r := range rows {
					for h := range heads {
						y := r*lds["y"] + h*(m+n)
						for i := range m {
							v["y"][y+i], v["z"][y+i], v["z2"][y+i] = v["a"][r*lds["a"]+h*m+i], v["a"][r*lds["a"]+h*m+i], 0
							v["da"][r*lds["a"]+h*m+i] = v["dy"][y+i]
						}
						for i := range n {
							v["y"][y+m+i], v["z"][y+m+i], v["z2"][y+m+i] = v["b"][at(r, h, i)], 0, v["b"][at(r, h, i)]
							if shared && h > 0 {
								v["db"][at(r, h, i)] += v["dy"][y+m+i]
							} else {
								v["db"][at(r, h, i)] = v["dy"][y+m+i]
							}
						}
					}
				}
			}, nil, 1e-5,
		})
	}
	return all
}

// headProducts multiply each head by its own matrix, with gaps between heads and between rows.
func headProducts() (all []operation) {
	const heads, n, k, gap = 3, 40, 24, 4
	for _, trans := range []bool{false, true} {
		for _, rows := range []int{1, 8, 70} {
			ldx, ldy := heads*(k+gap), heads*(n+gap)
			p := nn.HeadProduct{Trans: trans, Heads: heads, Rows: rows, N: n, K: k}
			in := values{"x": normal(1, rows*ldx), "w": normal(2, heads*n*k), "y": normal(3, rows*ldy)}
			all = append(all, operation{
				fmt.Sprintf("Multiply heads, transposed %v, %d rows", trans, rows), in,
				func(d device.Device, b map[string]device.Buffer) {
					d.MultiplyHeads(trans, heads, rows, n, k, device.Heads{Buffer: b["y"], Head: n + gap, Row: ldy}, device.Heads{Buffer: b["x"], Head: k + gap, Row: ldx}, b["w"])
				}, func(v values) {
					p := p
					p.X, p.Y, p.W = nn.View{Data: v["x"], Head: k + gap, Row: ldx}, nn.View{Data: v["y"], Head: n + gap, Row: ldy}, v["w"]
					nn.MultiplyHeadsRef(p)
				}, nil, 1e-4,
			})
		}
	}
	return all
}

// attendPrefix stores rows in a cache of a format, and attends to them; their first numbers are the values.
func attendPrefix(name string, s device.Scores, f device.Format) operation {
	room, dim, rows := s.Keys+3, s.HeadDim, s.Batch*s.Queries
	in := values{
		"q": normal(3, rows*s.Heads*dim), "k": coarse(1, s.Batch*s.Keys*dim), "out": nan(rows * s.Heads * s.ValueDim), "lse": nan(s.Batch * s.Heads * s.Queries),
	}
	return operation{
		fmt.Sprintf("Attend: values are %d of %d numbers of keys, %d heads, a cache in %s", s.ValueDim, dim, s.Heads, name), in,
		func(d device.Device, b map[string]device.Buffer) {
			cache := device.Heads{Buffer: d.New(f, s.Batch*room*dim), Seq: room * dim, Head: room * dim, Row: dim}
			if f.Scaled() {
				cache.Scales = d.New(device.F32, s.Batch*room)
			}
			heads := func(b device.Buffer, dim int) device.Heads {
				return device.Heads{Buffer: b, Seq: s.Queries * s.Heads * dim, Head: dim, Row: s.Heads * dim}
			}
			d.Store(cache, device.Heads{}, 0, b["k"], device.Buffer{}, s.Batch, s.Keys, dim)
			d.Attend(s, heads(b["out"], s.ValueDim), b["lse"], heads(b["q"], dim), cache, cache)
		}, func(v values) {
			heads := func(x []float32, dim int) nn.View {
				return nn.View{Data: x, Seq: s.Queries * s.Heads * dim, Head: dim, Row: s.Heads * dim}
			}
			k := v["k"]
			if f.Scaled() {
				k = throughIntegers(f, k, dim)
			}
			keys := nn.View{Data: k, Seq: s.Keys * dim, Head: dim, Row: dim}
			nn.AttendRef(scores(s), heads(v["out"], s.ValueDim), v["lse"], heads(v["q"], dim), keys, keys)
		}, nil, 2e-3,
	}
}
