package devicetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gqa/internal/cpu/simd"
	"gqa/internal/device"
)

// integers are formats of keys and values for a device.Quantizer.
var integers = map[device.Format]string{device.Int8: "int8", device.Int4: "int4"}

// newCache returns room for keys or values of integers.
func newCache(d device.Device, f device.Format, seqs, heads, room, dim int) device.Heads {
	rows := seqs * heads * room
	return device.Heads{Buffer: d.New(f, rows*dim), Seq: heads * room * dim, Head: room * dim, Row: dim, Scales: d.New(device.F32, rows)}
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

// read writes what the rows of a cache hold to y, without gaps: each as the only key and value of a sequence.
func read(d device.Device, y device.Buffer, h device.Heads) {
	rows := h.Len() / h.Row
	each := device.Heads{Buffer: y, Seq: h.Row, Head: h.Row, Row: h.Row}
	q := each
	q.Buffer = put(d, d.Activations(), make([]float32, h.Len()))
	h.Seq, h.Head = h.Row, h.Row
	d.Attend(device.Scores{Batch: rows, Queries: 1, Keys: 1, Heads: 1, KVHeads: 1, HeadDim: h.Row, Scale: 1}, each, device.Buffer{}, q, h, h)
}

// storing stores integers behind others, and reads all.
func storing(quantizes bool) (all []operation) {
	const seqs, heads, tokens, first, room = 2, 3, 4, 2, 7
	for f, name := range integers {
		for _, dim := range []int{2, 20, 32, 64, 80, 128, 256} {
			if !quantizes {
				continue
			}
			k := normal(1, seqs*tokens*heads*dim)
			k[0], k[1] = 127, 2.5
			copy(k[2:dim], []float32{0.5, -0.5, 1.5, -1.5, 3.5, -126.5}) // halves of Int8
			n := seqs * heads * room * dim
			in := values{"k": k, "v": normal(2, len(k)), "keys": nan(n), "values": nan(n)}
			all = append(all, operation{
				fmt.Sprintf("Store of heads of %d in %s", dim, name), in,
				func(d device.Device, b map[string]device.Buffer) {
					keys, vals := newCache(d, f, seqs, heads, room, dim), newCache(d, f, seqs, heads, room, dim)
					zeros := put(d, d.Activations(), make([]float32, n))
					d.Store(keys, vals, 0, zeros, zeros, seqs, room, dim)
					d.Store(keys, vals, first, b["k"], b["v"], seqs, tokens, dim)
					read(d, b["keys"], keys)
					read(d, b["values"], vals)
				}, func(x values) {
					for from, to := range map[string]string{"k": "keys", "v": "values"} {
						clear(x[to])
						rows := throughIntegers(f, x[from], dim)
						for row := range len(rows) / dim {
							seq, t, h := row/heads/tokens, row/heads%tokens, row%heads
							copy(x[to][((seq*heads+h)*room+first+t)*dim:][:dim], rows[row*dim:])
						}
					}
				}, nil, 1e-6,
			})
		}
	}
	return all
}

// checkUnusualRows stores rows that are not finite, and one that is so small that it becomes zero.
func checkUnusualRows(t *testing.T, d device.Device, f device.Format) {
	const rows, dim = 5, 64
	x := normal(1, rows*dim)
	x[0*dim+5], x[1*dim+63], x[2*dim] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
	for i := range dim {
		x[3*dim+i] = 0x1p-101
	}
	cache, y := newCache(d, f, 1, 1, rows, dim), d.New(d.Activations(), rows*dim)
	b := put(d, d.Activations(), x)
	d.Store(cache, cache, 0, b, b, 1, rows, dim)
	read(d, y, cache)
	for i, got := range d.Host(y) {
		switch row := i / dim; {
		case row < 3 && got == got:
			t.Errorf("row %d, which is not finite, has %v", row, got)
		case row == 3 && got != 0, row == 4 && (got != got || math.Abs(float64(got)) > 5):
			t.Errorf("row %d has %v", row, got)
		}
	}
}

// checkRotateStore compares RotateStore with Rotate and Store. As they may round differently, few numbers may be off by one.
func checkRotateStore(t *testing.T, d device.Device, f device.Format) {
	const seqs, tokens, first, room, heads, kvHeads = 2, 3, 4, 9, 4, 2
	pos := []int32{4, 5, 6, 0, 11, 2}
	for _, c := range []struct {
		headDim, planes int
		interleaved     bool
	}{{64, 32, false}, {128, 16, true}, {80, 10, false}} {
		freq := make([]float64, c.planes)
		for i := range freq {
			freq[i] = math.Pow(10, -float64(i)/8)
		}
		rope := d.NewRope(freq, 12, 1, c.interleaved)
		matrix := func(seed uint64, cols int) device.Rows {
			return device.Rows{Buffer: put(d, d.Activations(), normal(seed, len(pos)*cols)), LD: cols}
		}
		result := func(store func(q, k, v device.Rows, keys, vals device.Heads)) (all [][]float32) {
			q, k, v := matrix(1, heads*c.headDim), matrix(2, kvHeads*c.headDim), matrix(3, kvHeads*c.headDim)
			keys, vals := newCache(d, f, seqs, kvHeads, room, c.headDim), newCache(d, f, seqs, kvHeads, room, c.headDim)
			zeros := put(d, d.Activations(), make([]float32, keys.Len()))
			d.Store(keys, vals, 0, zeros, zeros, seqs, room, c.headDim)
			store(q, k, v, keys, vals)
			for _, h := range []device.Heads{keys, vals} {
				y := d.New(d.Activations(), h.Len())
				read(d, y, h)
				all = append(all, slices.Clone(d.Host(y)))
			}
			return append(all, slices.Clone(d.Host(q.Buffer)))
		}
		got := result(func(q, k, v device.Rows, keys, vals device.Heads) {
			d.(device.Fused).RotateStore(rope, q, k, v, pos, heads, c.headDim, keys, vals, first, tokens)
		})
		want := result(func(q, k, v device.Rows, keys, vals device.Heads) {
			d.Rotate(rope, q, q, pos, heads, c.headDim, false)
			d.Rotate(rope, k, k, pos, kvHeads, c.headDim, false)
			d.Store(keys, vals, first, k.Buffer, v.Buffer, seqs, tokens, c.headDim)
		})
		for i, name := range []string{"keys", "values", "queries"} {
			off := 0
			for j, w := range want[i] {
				apart := math.Abs(float64(got[i][j] - w))
				if apart > 1e-5*largest(want[i]) {
					off++
				}
				if step := 1.1 * largest(want[i]) / 7; !(apart <= step) {
					t.Fatalf("%+v: %s[%d] is %v, want %v", c, name, j, got[i][j], w)
				}
			}
			if off > len(want[i])/50 {
				t.Errorf("%+v: %d of %d %s differ", c, off, len(want[i]), name)
			}
		}
	}
}
