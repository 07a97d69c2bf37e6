package devicetest

import (
	"cmp"
	"fmt"
	"math"

	"gqa/internal/activation"
	"gqa/internal/cpu/blas"
	"gqa/internal/cpu/nn"
	"gqa/internal/cpu/optim"
	"gqa/internal/device"
)

func elementwise() (all []operation) {
	const n = 4099
	add := func(name string, run func(d device.Device, b map[string]device.Buffer), ref func(i int, v values)) {
		in := values{"x": normal(1, n), "y": normal(2, n), "z": normal(3, n), "s": {1.5}}
		all = append(all, operation{name, in, run, func(v values) {
			for i := range n {
				ref(i, v)
			}
		}, nil, 1e-6})
	}
	add("Copy", func(d device.Device, b map[string]device.Buffer) { d.Copy(b["z"], b["x"]) }, func(i int, v values) { v["z"][i] = v["x"][i] })
	add("Clear", func(d device.Device, b map[string]device.Buffer) { d.Clear(b["z"]) }, func(i int, v values) { v["z"][i] = 0 })
	add("Add", func(d device.Device, b map[string]device.Buffer) { d.Add(b["z"], b["x"], b["y"]) }, func(i int, v values) { v["z"][i] = v["x"][i] + v["y"][i] })
	add("Add in place", func(d device.Device, b map[string]device.Buffer) { d.Add(b["x"], b["x"], b["y"]) }, func(i int, v values) { v["x"][i] += v["y"][i] })
	add("Axpy", func(d device.Device, b map[string]device.Buffer) { d.Axpy(0.7, b["x"], b["z"]) }, func(i int, v values) { v["z"][i] += 0.7 * v["x"][i] })
	add("Scale", func(d device.Device, b map[string]device.Buffer) { d.Scale(b["x"], -0.3) }, func(i int, v values) { v["x"][i] *= -0.3 })
	add("ScaleBy", func(d device.Device, b map[string]device.Buffer) { d.ScaleBy(b["x"], b["s"]) }, func(i int, v values) { v["x"][i] *= 1.5 })
	add("Shift", func(d device.Device, b map[string]device.Buffer) { d.Shift(b["z"], b["x"], 2) }, func(i int, v values) { v["z"][i] = v["x"][i] + 2 })
	add("Clip", func(d device.Device, b map[string]device.Buffer) { d.Clip(b["z"], b["x"], 0.5) }, func(i int, v values) { v["z"][i] = min(max(v["x"][i], -0.5), 0.5) })
	add("ClipBackward", func(d device.Device, b map[string]device.Buffer) { d.ClipBackward(b["z"], b["y"], b["x"], 0.5) }, func(i int, v values) {
		if v["z"][i] = v["y"][i]; math.Abs(float64(v["x"][i])) > 0.5 {
			v["z"][i] = 0
		}
	})
	add("Lerp", func(d device.Device, b map[string]device.Buffer) { d.Lerp(b["z"], b["x"], 0.1) }, func(i int, v values) { v["z"][i] = 0.9*v["z"][i] + 0.1*v["x"][i] })
	add("Swap", func(d device.Device, b map[string]device.Buffer) { d.Swap(b["x"], b["y"]) }, func(i int, v values) { v["x"][i], v["y"][i] = v["y"][i], v["x"][i] })
	return append(all, activations(n)...)
}

func activations(n int) (all []operation) {
	for _, act := range []activation.Func{
		activation.SiLU, activation.GELU, activation.GELUTanh, activation.QuickGELU, activation.ReLU, activation.ReLU2,
	} {
		in := values{"x": normal(1, n), "u": normal(2, n), "dy": normal(3, n), "y": nan(n), "dx": nan(n), "du": nan(n)}
		all = append(all,
			operation{
				"Activate " + act.String(), in,
				func(d device.Device, b map[string]device.Buffer) {
					d.Activate(act, b["y"], b["x"])
					d.ActivateBackward(act, b["dx"], b["dy"], b["x"])
				}, func(v values) {
					nn.ActivateRef(act, v["y"], v["x"])
					nn.ActivateBackwardRef(act, v["dx"], v["dy"], v["x"])
				},
				[]string{"du"},
				1e-5,
			},
			operation{
				"Gate " + act.String(), in,
				func(d device.Device, b map[string]device.Buffer) {
					x, u := device.Rows{Buffer: b["x"], LD: n}, device.Rows{Buffer: b["u"], LD: n}
					d.Gate(act, b["y"], x, u, 1, n)
					d.GateBackward(act, device.Rows{Buffer: b["dx"], LD: n}, device.Rows{Buffer: b["du"], LD: n}, b["dy"], x, u, 1, n)
				}, func(v values) {
					nn.GateRef(act, v["y"], v["x"], v["u"])
					nn.GateBackwardRef(act, v["dx"], v["du"], v["dy"], v["x"], v["u"])
				}, nil, 1e-5,
			})
	}
	return append(all, gatesInColumns()...)
}

// gatesInColumns are gates whose operands are columns of one matrix [rows, 2·dim + 3].
func gatesInColumns() (all []operation) {
	const rows = 5
	for _, dim := range []int{40, 37} {
		ld := 2*dim + 3
		if dim == 40 {
			ld = 2 * dim // as products write it
		}
		halves := func(b device.Buffer) (gate, up device.Rows) {
			return device.Rows{Buffer: b, LD: ld}, device.Rows{Buffer: b.From(dim), LD: ld}
		}
		in := values{"x": normal(1, rows*ld), "dy": normal(2, rows*dim), "y": nan(rows * dim), "dx": normal(3, rows*ld), "z": nan(rows * dim)}
		all = append(all, operation{
			fmt.Sprintf("Gate of %d columns", dim), in,
			func(d device.Device, b map[string]device.Buffer) {
				gate, up := halves(b["x"])
				dgate, dup := halves(b["dx"])
				d.Gate(activation.SiLU, b["y"], gate, up, rows, dim)
				d.GateBackward(activation.SiLU, dgate, dup, b["dy"], gate, up, rows, dim)
				d.CopyRows(device.Rows{Buffer: b["z"], LD: dim}, up, rows, dim)
			}, func(v values) {
				for r := range rows {
					x, dx, row := v["x"][r*ld:], v["dx"][r*ld:], func(name string) []float32 { return v[name][r*dim:][:dim] }
					nn.GateRef(activation.SiLU, row("y"), x[:dim], x[dim:][:dim])
					nn.GateBackwardRef(activation.SiLU, dx[:dim], dx[dim:][:dim], row("dy"), x[:dim], x[dim:][:dim])
					copy(row("z"), x[dim:])
				}
			}, nil, 1e-5,
		})
	}
	return all
}

func products() (all []operation) {
	const m, n, k = 33, 65, 70
	for _, c := range []struct {
		ta, tb bool
		beta   float32
	}{{false, false, 0}, {false, true, 0}, {true, false, 0}, {true, true, 0.5}, {false, true, 1}, {true, false, 1}} {
		lda, ldb := k+3, n+1
		if c.ta {
			lda = m + 3
		}
		if c.tb {
			ldb = k + 1
		}
		in := values{"a": normal(1, max(m, k)*lda), "b": normal(2, max(n, k)*ldb), "c": normal(3, m*n)}
		if c.beta == 0 {
			in["c"] = nan(m * n)
		}
		all = append(all, operation{
			fmt.Sprintf("Gemm %+v", c), in,
			func(d device.Device, b map[string]device.Buffer) {
				d.Gemm(c.ta, c.tb, m, n, k, 0.8, b["a"], lda, b["b"], ldb, c.beta, b["c"], n)
			}, func(v values) {
				blas.GemmRef(c.ta, c.tb, m, n, k, 0.8, v["a"], lda, v["b"], ldb, c.beta, v["c"], n)
			}, nil, 1e-5,
		})
	}
	in := values{"x": normal(1, m*k), "w": normal(2, n*k), "u": normal(3, 3*k), "y": nan(m * n), "z": nan(m * 3), "bias": normal(4, n), "dbias": normal(5, n)}
	return append(all, operation{
		"Multiply, AddRows, SumRows", in,
		func(d device.Device, b map[string]device.Buffer) {
			d.Multiply(m, k, b["x"], []device.Product{{N: n, Y: b["y"], W: b["w"]}, {N: 3, Y: b["z"], W: b["u"]}})
			d.AddRows(b["y"], b["bias"], m, n)
			d.SumRows(b["dbias"], b["y"], m, n)
		}, func(v values) {
			blas.GemmRef(false, true, m, n, k, 1, v["x"], k, v["w"], k, 0, v["y"], n)
			blas.GemmRef(false, true, m, 3, k, 1, v["x"], k, v["u"], k, 0, v["z"], 3)
			for i := range v["y"] {
				v["y"][i] += v["bias"][i%n]
			}
			for i := range v["y"] {
				v["dbias"][i%n] += v["y"][i]
			}
		}, nil, 2e-5,
	})
}

func norms() (all []operation) {
	const rows, dim, eps = 13, 331, 1e-5
	in := values{
		"x": normal(1, rows*dim), "w": normal(2, dim), "b": normal(3, dim), "dy": normal(4, rows*dim), "dw": normal(5, dim), "db": normal(6, dim),
		"y": nan(rows * dim), "dx": nan(rows * dim), "inv": nan(rows), "mean": nan(rows),
	}
	const heads, headRows, headDim = 3, 12, 37 // of norms whose weights are [heads, headDim]
	byHeads := values{
		"x": normal(1, headRows*headDim), "w": normal(2, heads*headDim), "b": normal(3, heads*headDim), "dy": normal(4, headRows*headDim),
		"dw": normal(5, heads*headDim), "dw2": normal(6, heads*headDim), "db": normal(7, heads*headDim),
		"y": nan(headRows * headDim), "dx": nan(headRows * headDim), "y2": nan(headRows * headDim), "dx2": nan(headRows * headDim),
		"inv": nan(headRows), "inv2": nan(headRows), "mean": nan(headRows),
	}
	return append(normsOfSums(), []operation{
		{"RMSNorm", in, func(d device.Device, b map[string]device.Buffer) {
			d.RMSNorm(b["y"], b["inv"], b["x"], b["w"], rows, dim, eps)
			d.RMSNormBackward(b["dx"], b["dw"], b["dy"], b["x"], b["w"], b["inv"], rows, dim, false)
		}, func(v values) {
			nn.RMSNormRef(v["y"], v["inv"], v["x"], v["w"], rows, dim, eps)
			nn.RMSNormBackwardRef(v["dx"], v["dw"], v["dy"], v["x"], v["w"], v["inv"], rows, dim)
		}, []string{"mean"}, 1e-5},
		{"RMSNorm without a weight", in, func(d device.Device, b map[string]device.Buffer) {
			d.RMSNorm(b["y"], b["inv"], b["x"], device.Buffer{}, rows, dim, eps)
			d.RMSNormBackward(b["dx"], device.Buffer{}, b["dy"], b["x"], device.Buffer{}, b["inv"], rows, dim, false)
		}, func(v values) {
			nn.RMSNormRef(v["y"], v["inv"], v["x"], nil, rows, dim, eps)
			nn.RMSNormBackwardRef(v["dx"], nil, v["dy"], v["x"], nil, v["inv"], rows, dim)
		}, []string{"mean"}, 1e-5},
		{"LayerNorm", in, func(d device.Device, b map[string]device.Buffer) {
			d.LayerNorm(b["y"], b["mean"], b["inv"], b["x"], b["w"], b["b"], rows, dim, eps)
			d.LayerNormBackward(b["dx"], b["dw"], b["db"], b["dy"], b["x"], b["w"], b["mean"], b["inv"], rows, dim, false)
		}, func(v values) {
			nn.LayerNormRef(v["y"], v["mean"], v["inv"], v["x"], v["w"], v["b"], rows, dim, eps)
			nn.LayerNormBackwardRef(v["dx"], v["dw"], v["db"], v["dy"], v["x"], v["w"], v["mean"], v["inv"], rows, dim)
		}, nil, 1e-5},
		{"norms by heads", byHeads, func(d device.Device, b map[string]device.Buffer) {
			d.RMSNorm(b["y"], b["inv"], b["x"], b["w"], headRows, headDim, eps)
			d.RMSNormBackward(b["dx"], b["dw"], b["dy"], b["x"], b["w"], b["inv"], headRows, headDim, false)
			d.LayerNorm(b["y2"], b["mean"], b["inv2"], b["x"], b["w"], b["b"], headRows, headDim, eps)
			d.LayerNormBackward(b["dx2"], b["dw2"], b["db"], b["dy"], b["x"], b["w"], b["mean"], b["inv2"], headRows, headDim, false)
		}, func(v values) {
			nn.RMSNormRef(v["y"], v["inv"], v["x"], v["w"], headRows, headDim, eps)
			nn.RMSNormBackwardRef(v["dx"], v["dw"], v["dy"], v["x"], v["w"], v["inv"], headRows, headDim)
			nn.LayerNormRef(v["y2"], v["mean"], v["inv2"], v["x"], v["w"], v["b"], headRows, headDim, eps)
			nn.LayerNormBackwardRef(v["dx2"], v["dw2"], v["db"], v["dy"], v["x"], v["w"], v["mean"], v["inv2"], headRows, headDim)
		}, nil, 1e-5},
		{"LayerNorm without weight and bias", in, func(d device.Device, b map[string]device.Buffer) {
			d.LayerNorm(b["y"], device.Buffer{}, device.Buffer{}, b["x"], device.Buffer{}, device.Buffer{}, rows, dim, eps)
		}, func(v values) {
			nn.LayerNormRef(v["y"], nil, nil, v["x"], nil, nil, rows, dim, eps)
		}, []string{"mean", "inv", "dx"}, 1e-5},
	}...)
}

// normsOfSums are norms of x + z, whose gradient is added to dx. There are sizes for vectors of numbers, and odd ones.
func normsOfSums() (all []operation) {
	const eps = 1e-5
	for _, s := range []struct{ rows, dim int }{{37, 64}, {50, 2048}, {3, 8192}, {3, 9000}, {37, 77}, {20, 1032}, {70, 96}, {33, 768}, {9, 384}} {
		n := s.rows * s.dim
		in := values{
			"x": normal(1, n), "z": normal(2, n), "w": normal(3, s.dim), "b": normal(4, s.dim), "dy": normal(5, n), "dw": normal(6, s.dim), "db": normal(7, s.dim),
			"sum": nan(n), "y": nan(n), "dx": normal(8, n), "inv": nan(s.rows), "mean": nan(s.rows),
		}
		for _, layer := range []bool{false, true} {
			all = append(all, operation{
				fmt.Sprintf("norm of a sum [%d, %d], mean %v", s.rows, s.dim, layer), in,
				func(d device.Device, b map[string]device.Buffer) {
					if layer {
						d.AddLayerNorm(b["y"], b["mean"], b["inv"], b["sum"], b["x"], b["z"], b["w"], b["b"], s.rows, s.dim, eps)
						d.LayerNormBackward(b["dx"], b["dw"], b["db"], b["dy"], b["sum"], b["w"], b["mean"], b["inv"], s.rows, s.dim, true)
						return
					}
					d.AddRMSNorm(b["y"], b["inv"], b["sum"], b["x"], b["z"], b["w"], s.rows, s.dim, eps)
					d.RMSNormBackward(b["dx"], b["dw"], b["dy"], b["sum"], b["w"], b["inv"], s.rows, s.dim, true)
				}, func(v values) {
					for i, x := range v["x"] {
						v["sum"][i] = x + v["z"][i]
					}
					dx := make([]float32, n)
					if layer {
						nn.LayerNormRef(v["y"], v["mean"], v["inv"], v["sum"], v["w"], v["b"], s.rows, s.dim, eps)
						nn.LayerNormBackwardRef(dx, v["dw"], v["db"], v["dy"], v["sum"], v["w"], v["mean"], v["inv"], s.rows, s.dim)
					} else {
						nn.RMSNormRef(v["y"], v["inv"], v["sum"], v["w"], s.rows, s.dim, eps)
						nn.RMSNormBackwardRef(dx, v["dw"], v["dy"], v["sum"], v["w"], v["inv"], s.rows, s.dim)
					}
					for i := range dx {
						v["dx"][i] += dx[i]
					}
				},
				[]string{"mean"},
				3e-5,
			})
		}
	}
	return all
}

func positions() (all []operation) {
	const heads, headDim = 3, 20
	pos := []int32{0, 1, 5, 2, 40, 39, 7}
	for _, interleaved := range []bool{false, true} {
		freq := []float64{1, 0.3, 0.1, 0.02, 0.004, 0.001} // 12 of 20 dims
		table := nn.NewRopeTable(freq, 41, 1.1, interleaved)
		n := len(pos) * heads * headDim
		in := values{"x": normal(1, n), "y": nan(n), "z": nan(n)}
		dense := func(b device.Buffer) device.Rows { return device.Rows{Buffer: b, LD: heads * headDim} }
		all = append(all, operation{
			fmt.Sprintf("Rotate interleaved=%v", interleaved), in,
			func(d device.Device, b map[string]device.Buffer) {
				r := d.NewRope(freq, 41, 1.1, interleaved)
				d.Rotate(r, dense(b["y"]), dense(b["x"]), pos, heads, headDim, false)
				d.Rotate(r, dense(b["z"]), dense(b["x"]), pos, heads, headDim, true)
				d.Rotate(r, dense(b["x"]), dense(b["x"]), pos, heads, headDim, false) // in place
			}, func(v values) {
				table.RotateRef(v["y"], v["x"], pos, heads, headDim, false)
				table.RotateRef(v["z"], v["x"], pos, heads, headDim, true)
				copy(v["x"], v["y"])
			}, nil, 1e-5,
		})
	}
	all = append(all, rotationsInColumns()...)
	const buckets, queries, keys = 8, 5, 9
	bucket := ids(2, queries+keys-1, buckets)
	in := values{"table": normal(1, buckets*heads), "y": nan(heads * queries * keys), "dy": normal(2, heads*queries*keys), "dtable": normal(3, buckets*heads)}
	return append(all, operation{
		"RelativeBias", in,
		func(d device.Device, b map[string]device.Buffer) {
			d.RelativeBias(b["y"], b["table"], bucket, heads, queries, keys)
			d.RelativeBiasBackward(b["dtable"], b["dy"], bucket, heads, queries, keys)
		}, func(v values) {
			for i := range v["y"] {
				h, q, k := i/keys/queries, i/keys%queries, i%keys
				at := int(bucket[k-q+queries-1])*heads + h
				v["y"][i] = v["table"][at]
				v["dtable"][at] += v["dy"][i]
			}
		}, nil, 1e-5,
	})
}

func attention() (all []operation) {
	for _, c := range []struct {
		name string
		s    device.Scores
		bias bool
	}{
		{"causal, grouped", device.Scores{Batch: 2, Queries: 37, Keys: 37, Heads: 6, KVHeads: 2, HeadDim: 24, Scale: 0.2, Causal: true}, false},
		{"one KV head, a window", device.Scores{Batch: 1, Queries: 50, Keys: 50, Heads: 4, KVHeads: 1, HeadDim: 16, Scale: 0.25, Causal: true, Window: 9}, false},
		{"all see all, padding", device.Scores{Batch: 3, Queries: 12, Keys: 20, KeyLens: []int{20, 3, 11}, Heads: 2, KVHeads: 2, HeadDim: 40, Scale: 0.3}, false},
		{"ALiBi", device.Scores{Batch: 2, Queries: 21, Keys: 21, Heads: 4, KVHeads: 4, HeadDim: 8, Scale: 0.3, Causal: true, Slopes: []float32{0.5, 0.25, 0.125, 0.0625}}, false},
		{"a bias", device.Scores{Batch: 2, Queries: 10, Keys: 10, Heads: 3, KVHeads: 3, HeadDim: 64, Scale: 1}, true},
		{"documents", device.Scores{Batch: 2, Queries: 70, Keys: 70, Heads: 4, KVHeads: 2, HeadDim: 24, Scale: 0.2, Causal: true, Firsts: documents(70, []int{0, 1, 40, 41}, []int{0, 33})}, false},
		{"documents, a window, ALiBi", device.Scores{Batch: 1, Queries: 50, Keys: 50, Heads: 2, KVHeads: 1, HeadDim: 16, Scale: 0.25, Causal: true, Window: 9, Firsts: documents(50, []int{0, 20, 45}), Slopes: []float32{0.5, 0.25}}, false},
		{"documents, coarse ALiBi", device.Scores{Batch: 1, Queries: 20, Keys: 20, Heads: 2, KVHeads: 2, HeadDim: 8, Scale: 0.3, Causal: true, Firsts: documents(20, []int{0, 7}), Slopes: []float32{0.7071, 0.3}, CoarseSlopes: 0.3}, false},
		{"a decoded token", device.Scores{Batch: 4, Queries: 1, Keys: 130, Heads: 8, KVHeads: 2, HeadDim: 32, Scale: 0.2, Causal: true}, false},
		{"narrow values", device.Scores{Batch: 2, Queries: 37, Keys: 37, Heads: 4, KVHeads: 4, HeadDim: 24, ValueDim: 16, Scale: 0.2, Causal: true}, false},
		{"wide values", device.Scores{Batch: 2, Queries: 21, Keys: 37, Heads: 4, KVHeads: 2, HeadDim: 16, ValueDim: 40, Scale: 0.2, Causal: true, Window: 9}, false},
		{"DeepSeek's widths", device.Scores{Batch: 1, Queries: 40, Keys: 40, Heads: 2, KVHeads: 2, HeadDim: 192, ValueDim: 128, Scale: 0.07, Causal: true}, false},
	} {
		all = append(all, attend(c.name, c.s, c.bias))
	}
	return all
}

// documents returns Scores.Firsts for sequences of n tokens, given where the documents of each start.
func documents(n int, starts ...[]int) (firsts []int32) {
	for _, of := range starts {
		at := 0
		for i := range n {
			if at+1 < len(of) && of[at+1] == i {
				at++
			}
			firsts = append(firsts, int32(of[at]))
		}
	}
	return firsts
}

// attend returns attention and its gradient over rows [batch·tokens, heads·headDim].
func attend(name string, s device.Scores, bias bool) operation {
	widths := map[string]int{"q": s.HeadDim, "k": s.HeadDim, "dq": s.HeadDim, "dk": s.HeadDim}
	for _, name := range []string{"v", "out", "dv", "dout"} {
		widths[name] = cmp.Or(s.ValueDim, s.HeadDim)
	}
	q, k := s.Batch*s.Queries*s.Heads, s.Batch*s.Keys*s.KVHeads
	qv, kv := q*widths["v"], k*widths["v"]
	q, k = q*s.HeadDim, k*s.HeadDim
	in := values{
		"q": normal(1, q), "k": normal(2, k), "v": normal(3, kv), "dout": normal(4, qv),
		"out": nan(qv), "lse": nan(s.Batch * s.Heads * s.Queries), "dq": nan(q), "dk": nan(k), "dv": nan(kv),
	}
	if bias {
		n := s.Heads * s.Queries * s.Keys
		in["bias"], in["dbias"] = normal(5, n), normal(6, n)
	}
	heads := func(b device.Buffer, tokens, n, dim int) device.Heads {
		return device.Heads{Buffer: b, Seq: tokens * n * dim, Head: dim, Row: n * dim}
	}
	view := func(x []float32, tokens, n, dim int) nn.View {
		return nn.View{Data: x, Seq: tokens * n * dim, Head: dim, Row: n * dim}
	}
	return operation{
		"Attend: " + name, in,
		func(d device.Device, b map[string]device.Buffer) {
			s := s
			s.Bias = b["bias"]
			qs := func(name string) device.Heads { return heads(b[name], s.Queries, s.Heads, widths[name]) }
			ks := func(name string) device.Heads { return heads(b[name], s.Keys, s.KVHeads, widths[name]) }
			d.Attend(s, qs("out"), b["lse"], qs("q"), ks("k"), ks("v"))
			d.AttendBackward(s, qs("dq"), ks("dk"), ks("dv"), b["dbias"], qs("dout"), qs("out"), b["lse"], qs("q"), ks("k"), ks("v"))
		}, func(v values) {
			a := scores(s)
			a.Bias, a.BiasGrad = v["bias"], v["dbias"]
			qs := func(name string) nn.View { return view(v[name], s.Queries, s.Heads, widths[name]) }
			ks := func(name string) nn.View { return view(v[name], s.Keys, s.KVHeads, widths[name]) }
			nn.AttendRef(a, qs("out"), v["lse"], qs("q"), ks("k"), ks("v"))
			nn.AttendBackwardRef(a, qs("dq"), ks("dk"), ks("dv"), qs("dout"), qs("out"), v["lse"], qs("q"), ks("k"), ks("v"))
		}, nil, 1e-4,
	}
}

// rotationsInColumns rotate the middle columns of a matrix in place, with planes in multiples of 8.
func rotationsInColumns() (all []operation) {
	const heads, headDim, left, ld = 2, 32, 16, 96
	pos := []int32{3, 0, 11, 7, 8}
	for _, c := range []struct {
		planes      int
		interleaved bool
	}{{16, false}, {8, false}, {16, true}, {8, true}} {
		freq := make([]float64, c.planes)
		for i := range freq {
			freq[i] = math.Pow(10, -float64(i)/4)
		}
		table := nn.NewRopeTable(freq, 12, 1, c.interleaved)
		in := values{"x": normal(1, len(pos)*ld), "y": nan(len(pos) * heads * headDim)}
		all = append(all, operation{
			fmt.Sprintf("Rotate columns %+v", c), in,
			func(d device.Device, b map[string]device.Buffer) {
				r, columns := d.NewRope(freq, 12, 1, c.interleaved), device.Rows{Buffer: b["x"].From(left), LD: ld}
				d.Rotate(r, device.Rows{Buffer: b["y"], LD: heads * headDim}, columns, pos, heads, headDim, true)
				d.Rotate(r, columns, columns, pos, heads, headDim, false)
			}, func(v values) {
				for i := range pos {
					row := v["x"][i*ld+left:][:heads*headDim]
					table.RotateRef(v["y"][i*heads*headDim:][:heads*headDim], row, pos[i:i+1], heads, headDim, true)
					table.RotateRef(row, row, pos[i:i+1], heads, headDim, false)
				}
			}, nil, 1e-5,
		})
	}
	return all
}

func tables() []operation {
	const n, dim, rows = 29, 37, 50
	which := ids(3, rows, n)
	in := values{"table": normal(1, n*dim), "y": nan(rows * dim), "dy": normal(2, rows*dim), "dtable": normal(3, n*dim)}
	return []operation{{
		"Gather, ClearRows, ScatterAdd", in,
		func(d device.Device, b map[string]device.Buffer) {
			d.Gather(b["y"], b["table"], which, dim)
			d.ClearRows(b["dy"], which, which[4], dim)
			d.ScatterAdd(b["dtable"], b["dy"], which, dim)
		}, func(v values) {
			for i, id := range which {
				copy(v["y"][i*dim:][:dim], v["table"][int(id)*dim:])
				if id == which[4] {
					clear(v["dy"][i*dim:][:dim])
				}
				for j := range dim {
					v["dtable"][int(id)*dim+j] += v["dy"][i*dim+j]
				}
			}
		}, nil, 1e-5,
	}, {
		"Store",
		values{"k": normal(4, 6*2*dim), "v": normal(5, 6*2*dim), "keys": normal(6, 2*2*9*dim), "values": normal(7, 2*2*9*dim)},
		func(d device.Device, b map[string]device.Buffer) { // two sequences of three tokens after four, two heads
			at := func(b device.Buffer) device.Heads {
				return device.Heads{Buffer: b, Seq: 2 * 9 * dim, Head: 9 * dim, Row: dim}
			}
			d.Store(at(b["keys"]), at(b["values"]), 4, b["k"], b["v"], 2, 3, dim)
		}, func(v values) {
			for i := range 6 {
				for h := range 2 {
					to := i/3*2*9*dim + h*9*dim + (4+i%3)*dim
					copy(v["keys"][to:][:dim], v["k"][(i*2+h)*dim:])
					copy(v["values"][to:][:dim], v["v"][(i*2+h)*dim:])
				}
			}
		}, nil, 0,
	}}
}

func losses() (all []operation) {
	const rows, vocab, k = 11, 523, 4
	targets := ids(1, rows, vocab)
	targets[2], targets[7] = -1, -1
	in := values{"logits": normal(1, rows*vocab), "teacher": normal(2, rows*vocab), "ce": nan(rows), "kl": nan(rows), "total": nan(1)}
	all = append(all,
		operation{"CrossEntropy", in, func(d device.Device, b map[string]device.Buffer) {
			d.CrossEntropy(b["ce"], b["logits"], targets, rows, vocab)
			d.Total(b["total"], 0.5, device.Term{X: b["ce"], Weight: 2}, device.Term{X: b["logits"], Weight: 0.25, Squares: true})
		}, func(v values) {
			nn.CrossEntropyRef(v["ce"], nil, v["logits"], targets, rows, vocab)
			sum := 0.0
			for _, x := range v["ce"] {
				sum += 2 * float64(x)
			}
			for _, x := range v["logits"] {
				sum += float64(x) * float64(x) / 4
			}
			v["total"][0] = float32(sum / 2)
		}, []string{"kl"}, 1e-5},
		operation{"CrossEntropyGradient", in, func(d device.Device, b map[string]device.Buffer) {
			d.CrossEntropyGradient(b["ce"], b["logits"], targets, 0.1, rows, vocab)
		}, func(v values) {
			nn.CrossEntropyGradientRef(v["ce"], v["logits"], targets, 0.1, rows, vocab)
		}, []string{"kl", "total"}, 1e-5})
	top, logP := make([]int32, rows*k), make([]float32, rows*k)
	for i := range top {
		top[i], logP[i] = int32(i%k*100+i/k), float32(math.Log(0.4))-float32(i%k)
	}
	how := device.Distillation{Weight: 0.7, Temperature: 2}
	for _, whole := range []bool{true, false} {
		all = append(all, operation{fmt.Sprintf("Distill, all logits %v", whole), in, func(d device.Device, b map[string]device.Buffer) {
			soft := device.Soft{K: k, IDs: top, LogP: logP}
			if whole {
				soft = device.Soft{Logits: b["teacher"]}
			}
			d.Distill(b["ce"], b["kl"], b["logits"], targets, soft, how, 0.1, rows, vocab)
		}, func(v values) {
			soft := nn.Soft{K: k, IDs: top, LogP: logP}
			if whole {
				soft = nn.Soft{Logits: v["teacher"]}
			}
			nn.DistillRef(v["ce"], v["kl"], v["logits"], targets, soft, nn.Distillation(how), 0.1, rows, vocab)
		}, []string{"total"}, 1e-4})
	}
	return all
}

func optimizers() []operation {
	const n, rows, cols = 1000, 24, 40
	adamw := device.AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	muon := device.Muon{LR: 1e-2, Size: 0.2, Momentum: 0.95, Decay: 0.1}
	squares := normal(4, n)
	for i, x := range squares {
		squares[i] = x * x
	}
	return []operation{
		{"AdamW", values{
			"p": normal(1, n), "g": normal(2, n), "m": normal(3, n), "v": squares, "p2": normal(5, n/3), "g2": normal(6, n/3), "m2": normal(7, n/3), "v2": squares[:n/3], "copy": nan(n), "scale": {0.5},
		}, func(d device.Device, b map[string]device.Buffer) {
			small := adamw
			small.LR /= 2
			d.AdamW([]device.AdamWStep{
				{AdamW: adamw, P: b["p"], G: b["g"], M: b["m"], V: b["v"], Copy: b["copy"]},
				{AdamW: small, P: b["p2"], G: b["g2"], M: b["m2"], V: b["v2"]},
			}, b["scale"], 3)
		}, func(v values) {
			optim.AdamW(adamw).StepRef(v["p"], v["g"], v["m"], v["v"], 0.5, 3)
			copy(v["copy"], v["p"])
			small := adamw
			small.LR /= 2
			optim.AdamW(small).StepRef(v["p2"], v["g2"], v["m2"], v["v2"], 0.5, 3)
		}, nil, 1e-5},
		{"Muon", values{
			"p": normal(1, rows*cols), "g": normal(2, rows*cols), "m": normal(3, rows*cols),
			"p2": normal(4, rows*cols), "g2": normal(5, rows*cols), "m2": normal(6, rows*cols), "scale": {0.5},
			"p3": normal(7, rows*cols), "g3": normal(8, rows*cols), "m3": normal(9, rows*cols),
		}, func(d device.Device, b map[string]device.Buffer) {
			slow := muon
			slow.LR /= 2
			d.Muon([]device.MuonStep{
				{Muon: muon, P: b["p"], G: b["g"], M: b["m"], Rows: rows, Cols: cols},
				{Muon: muon, P: b["p2"], G: b["g2"], M: b["m2"], Rows: cols, Cols: rows},
				{Muon: slow, P: b["p3"], G: b["g3"], M: b["m3"], Rows: rows, Cols: cols},
			}, b["scale"])
		}, func(v values) {
			o := optim.Muon{LR: muon.LR, Size: muon.Size, Momentum: muon.Momentum, Decay: muon.Decay}
			o.StepRef(v["p"], v["g"], v["m"], rows, cols, 0.5)
			o.StepRef(v["p2"], v["g2"], v["m2"], cols, rows, 0.5)
			o.LR /= 2
			o.StepRef(v["p3"], v["g3"], v["m3"], rows, cols, 0.5)
		}, []string{"g", "g2", "g3"}, 1e-4},
		adafactor("", 24, 40, 0.5), adafactor(": tall", 1030, 7, 0.5), adafactor(": wide", 3, 2100, 0.5), adafactor(": no step", 5, 6, float32(math.NaN())),
		clipped("a limit", 3, 1), clipped("a high limit", 1e6, 1), clipped("no limit", 0, 1), clipped("a norm that is not finite", 3, float32(math.Inf(1))),
	}
}

// adafactor is a step of a matrix [rows, cols] and of a vector by Adafactor, with gradients times a factor. With NaN nothing is changed.
func adafactor(name string, rows, cols int, factor float32) operation {
	n := rows * cols
	o := device.Adafactor{LR: 1e-2, Rate: 0.8, Threshold: 1, Decay: 0.1, Scale: true}
	vector := o
	vector.Scale, vector.Threshold = false, 0.5
	positive := func(seed uint64, n int) []float32 {
		x := normal(seed, n)
		for i, v := range x {
			x[i] = 0.1 + v*v
		}
		return x
	}
	return operation{"Adafactor" + name, values{
		"p": normal(1, n), "g": normal(2, n), "row": positive(3, rows), "col": positive(4, cols), "copy": normal(1, n),
		"p2": normal(5, 1000), "g2": normal(6, 1000), "v2": positive(7, 1000), "scale": {factor},
	}, func(d device.Device, b map[string]device.Buffer) {
		d.Adafactor([]device.AdafactorStep{
			{Adafactor: o, P: b["p"], G: b["g"], Row: b["row"], Col: b["col"], Copy: b["copy"], Rows: rows, Cols: cols},
			{Adafactor: vector, P: b["p2"], G: b["g2"], V: b["v2"]},
		}, b["scale"], 3)
		d.Clear(b["scale"]) // NaN equals nothing
	}, func(v values) {
		if v["scale"][0] = 0; factor != factor {
			return
		}
		optim.Adafactor(o).StepRef(v["p"], v["g"], v["row"], v["col"], rows, cols, factor, 3)
		copy(v["copy"], v["p"])
		optim.Adafactor(vector).StepWholeRef(v["p2"], v["g2"], v["v2"], factor, 3)
	}, nil, 2e-5}
}

// clipped is a step of AdamW and of Muon with the norm of two gradients, one of them times a factor, limited.
func clipped(name string, limit float64, factor float32) operation {
	const n, rows, cols = 300, 12, 25
	g := normal(2, n)
	g[17] *= factor
	adamw, muon := device.AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}, device.Muon{LR: 1e-2, Size: 0.2, Momentum: 0.95}
	return operation{"ClipScale: " + name, values{
		"p": normal(1, n), "g": g, "m": make([]float32, n), "v": make([]float32, n), "p2": normal(3, n), "g2": normal(4, n), "m2": make([]float32, n),
		"scale": nan(1), "norm": make([]float32, 1),
	}, func(d device.Device, b map[string]device.Buffer) {
		norm := d.ClipScale(b["scale"], limit, device.Term{X: b["g"], Weight: 1, Squares: true}, device.Term{X: b["g2"], Weight: 1, Squares: true})
		d.AdamW([]device.AdamWStep{{AdamW: adamw, P: b["p"], G: b["g"], M: b["m"], V: b["v"]}}, b["scale"], 1)
		d.Muon([]device.MuonStep{{Muon: muon, P: b["p2"], G: b["g2"], M: b["m2"], Rows: rows, Cols: cols}}, b["scale"])
		if x := norm(); !math.IsInf(x, 0) && !math.IsNaN(x) {
			d.Write(b["norm"], []float32{float32(x)})
		}
		d.Clear(b["scale"]) // NaN equals nothing
	}, func(v values) {
		squares := 0.0
		for _, g := range [][]float32{v["g"], v["g2"]} {
			for _, x := range g {
				squares += float64(x) * float64(x)
			}
		}
		norm, scale := math.Sqrt(squares), float32(1)
		v["scale"][0] = 0
		if math.IsInf(norm, 0) {
			return
		}
		v["norm"][0] = float32(norm)
		if limit > 0 {
			scale = float32(min(1, limit/(norm+1e-6)))
		}
		optim.AdamW(adamw).StepRef(v["p"], v["g"], v["m"], v["v"], scale, 1)
		o := optim.Muon{LR: muon.LR, Size: muon.Size, Momentum: muon.Momentum}
		o.StepRef(v["p2"], v["g2"], v["m2"], rows, cols, scale)
	}, []string{"g", "g2"}, 1e-4}
}
