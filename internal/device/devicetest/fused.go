package devicetest

import (
	"fmt"
	"math"
	"slices"

	"gqa/internal/activation"
	"gqa/internal/cpu/nn"
	"gqa/internal/device"
)

// fused are operations that stand for several. Devices that do not have them compute the several.
func fused() []operation { return append(rotateStores(), gates()...) }

func rotateStores() (all []operation) {
	const seqs, tokens, first, room = 2, 3, 4, 9
	pos := []int32{4, 5, 6, 0, 11, 2}
	for _, c := range []struct {
		heads, kvHeads, headDim, planes int
		interleaved                     bool
	}{{4, 2, 64, 32, false}, {3, 1, 64, 16, false}, {4, 4, 32, 16, true}, {2, 1, 80, 8, true}, {3, 3, 20, 5, false}, {0, 2, 64, 32, false}} {
		freq := make([]float64, c.planes)
		for i := range freq {
			freq[i] = math.Pow(10, -float64(i)/8)
		}
		table := nn.NewRopeTable(freq, 12, 1, c.interleaved)
		dim, kv, head := c.heads*c.headDim, c.kvHeads*c.headDim, room*c.headDim
		for f, name := range formats {
			in := values{
				"k": coarse(2, len(pos)*kv), "v": coarse(3, len(pos)*kv),
				"keys": coarse(4, seqs*kv*room), "values": coarse(5, seqs*kv*room),
			}
			if c.heads > 0 {
				in["q"] = coarse(1, len(pos)*dim)
			}
			all = append(all, operation{
				fmt.Sprintf("RotateStore %+v in %s", c, name), in,
				func(d device.Device, b map[string]device.Buffer) {
					r := d.NewRope(freq, 12, 1, c.interleaved)
					o, ok := d.(device.Fused)
					cache := func(b device.Buffer) device.Heads {
						stored := b
						if ok {
							stored = d.New(f, b.Len())
							d.Copy(stored, b)
						}
						return device.Heads{Buffer: stored, Seq: c.kvHeads * head, Head: head, Row: c.headDim}
					}
					keys, vals := cache(b["keys"]), cache(b["values"])
					q, k, v := device.Rows{Buffer: b["q"], LD: dim}, device.Rows{Buffer: b["k"], LD: kv}, device.Rows{Buffer: b["v"], LD: kv}
					if ok {
						o.RotateStore(r, q, k, v, pos, c.heads, c.headDim, keys, vals, first, tokens)
						d.Copy(b["keys"], keys.Buffer)
						d.Copy(b["values"], vals.Buffer)
					} else {
						if c.heads > 0 {
							d.Rotate(r, q, q, pos, c.heads, c.headDim, false)
						}
						turned := device.Rows{Buffer: d.New(b["k"].Format(), b["k"].Len()), LD: kv}
						d.Rotate(r, turned, k, pos, c.kvHeads, c.headDim, false)
						d.Store(keys, vals, first, turned.Buffer, v.Buffer, seqs, tokens, c.headDim)
					}
				}, func(x values) {
					table.RotateRef(x["q"], x["q"], pos, c.heads, c.headDim, false)
					turned := make([]float32, len(x["k"]))
					table.RotateRef(turned, x["k"], pos, c.kvHeads, c.headDim, false)
					for row := range pos {
						for h := range c.kvHeads {
							at := row/tokens*c.kvHeads*head + h*head + (first+row%tokens)*c.headDim
							copy(x["keys"][at:][:c.headDim], turned[row*kv+h*c.headDim:])
							copy(x["values"][at:][:c.headDim], x["v"][row*kv+h*c.headDim:])
						}
					}
				}, nil, map[device.Format]float64{device.F32: 1e-5, device.BF16: 1e-2, device.F16: 2e-3}[f],
			})
		}
	}
	return all
}

func gates() (all []operation) {
	for _, s := range []struct{ rows, k, n int }{{1, 64, 40}, {5, 200, 33}, {16, 520, 16}, {16, 48, 100}, {17, 64, 24}, {3, 36, 7}, {9, 256, 4301}, {5, 384, 4300}} {
		for _, act := range []activation.Func{activation.SiLU, activation.GELUTanh} {
			for _, f := range []device.Format{device.F32, device.BF16} {
				gate, up := coarse(1, s.n*s.k), coarse(2, s.n*s.k)
				for i := range gate {
					gate[i], up[i] = gate[i]/16, up[i]/16
				}
				in := values{"x": coarse(3, s.rows*s.k), "y": nan(s.rows * s.n)}
				all = append(all, operation{
					fmt.Sprintf("MultiplyGate %s of [%d, %d] by %d columns in %s", act, s.rows, s.k, s.n, formats[f]), in,
					func(d device.Device, b map[string]device.Buffer) {
						w, u := d.Load(f, slices.Clone(gate), s.n, s.k, true), d.Load(f, slices.Clone(up), s.n, s.k, true)
						if o, ok := d.(device.Fused); ok && o.MultiplyGate(act, b["y"], b["x"], w, u, s.rows, s.n, s.k) {
							return
						}
						z := d.New(b["y"].Format(), s.rows*s.n)
						d.Multiply(s.rows, s.k, b["x"], []device.Product{{N: s.n, Y: b["y"], W: w}, {N: s.n, Y: z, W: u}})
						d.Gate(act, b["y"], device.Rows{Buffer: b["y"], LD: s.n}, device.Rows{Buffer: z, LD: s.n}, s.rows, s.n)
					}, func(v values) {
						y, z := make([]float32, s.rows*s.n), make([]float32, s.rows*s.n)
						for at := range z {
							x := v["x"][at/s.n*s.k:][:s.k]
							y[at], z[at] = dot(x, gate[at%s.n*s.k:]), dot(x, up[at%s.n*s.k:])
						}
						nn.GateRef(act, v["y"], y, z)
					}, nil, 1e-3,
				})
			}
		}
	}
	return all
}

// dot returns the sum of products of x and as many numbers of y.
func dot(x, y []float32) float32 {
	sum := 0.0
	for i := range x {
		sum += float64(x[i]) * float64(y[i])
	}
	return float32(sum)
}
