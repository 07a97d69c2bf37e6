//go:build cuda && linux

package cuda

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gqa/internal/device"
)

// The host passes as many words as kernels have parameters: a view has 5, scores 11 and a shape 2.
func TestWordsOfKernels(t *testing.T) {
	size := map[string]int{"View": viewWords, "Scores": scoreWords, "Shape": 2}
	for _, c := range []struct {
		file, kernel string
		words        []int
	}{
		{"store", "store_ints", storeIntsWords},
		{"store", "rotate_store_ints", rotateStoreIntsWords},
		{"store", "expand", expandWords},
		{"sinks", "attend_sinks", attendSinksWords},
		{"decode_ints", "decode_4", decodeIntsWords},
		{"decode_ints", "decode_16", decodeIntsWords},
		{"decode", "decode_4", decodeWords},
		{"decode", "decode_combine", combineWords},
	} {
		text, err := kernelFiles.ReadFile("kernels/" + c.file + ".cu")
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(c.kernel + `\((.*)\) \{`).FindSubmatch(text)
		if found == nil {
			t.Fatalf("no kernel %s in %s", c.kernel, c.file)
		}
		var want []int
		for _, parameter := range strings.Split(string(found[1]), ", ") {
			words := size[strings.Fields(parameter)[0]]
			want = append(want, max(words, 1))
		}
		if !slices.Equal(c.words, want) {
			t.Errorf("%s has parameters of %v words, and gets %v", c.kernel, want, c.words)
		}
	}
}

// filledInts returns a cache of random keys or values.
func filledInts(d *Device, f device.Format, seqs, heads, keys, dim int) device.Heads {
	rows := seqs * heads * keys
	h := device.Heads{Buffer: d.New(f, rows*dim), Seq: heads * keys * dim, Head: keys * dim, Row: dim, Scales: d.New(device.F32, rows)}
	x := randomBuffer(d, d.Activations(), rows*dim) // the same for keys and values
	d.Store(h, h, 0, x, x, seqs, keys, dim)
	d.Free(x)
	return h
}

// TestDecodeIntsDeterministic repeats attention to integers with several splits, and compares it with that without.
func TestDecodeIntsDeterministic(t *testing.T) {
	open(t)
	defer func(before int) { decodePlan.splits = before }(decodePlan.splits)
	for _, f := range []device.Format{device.Int8, device.Int4} {
		for _, kv := range []int{16, 4, 1} {
			s := device.Scores{Batch: 2, Queries: 1, Keys: 3000, Heads: 32, KVHeads: kv, HeadDim: 128, Scale: 0.09, Causal: true}
			d, err := Open(0, Options{Activations: device.BF16})
			if err != nil {
				t.Fatal(err)
			}
			x := newAttended(d, s, false, false)
			k, v := filledInts(d, f, s.Batch, kv, s.Keys, s.HeadDim), filledInts(d, f, s.Batch, kv, s.Keys, s.HeadDim)
			result := func(splits int) []float32 {
				decodePlan.splits = splits
				d.Attend(s, x.out, x.lse, x.q, k, v)
				return slices.Clone(d.Host(x.out.Buffer))
			}
			one := result(1)
			for _, splits := range []int{0, 7, 64} {
				first := result(splits)
				for range 4 {
					if !slices.Equal(result(splits), first) {
						t.Errorf("format %d, %d KV heads, %d splits: results differ", f, kv, splits)
					}
				}
				if worst, size := furthest(first, one); !(worst < 0.01*size) {
					t.Errorf("format %d, %d KV heads, %d splits: off by %g of %g", f, kv, splits, worst, size)
				}
			}
			if err := d.Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestIntsAreRecorded wants a step with integers and sinks in a graph.
func TestIntsAreRecorded(t *testing.T) {
	open(t)
	d, err := Open(0, Options{Activations: device.BF16})
	if err != nil {
		t.Fatal(err)
	}
	const seqs, heads, kv, room, dim, sinks = 2, 8, 2, 64, 64, 2
	k, v := filledInts(d, device.Int8, seqs, kv, room, dim), filledInts(d, device.Int8, seqs, kv, room, dim)
	q, out, rows := randomBuffer(d, device.BF16, seqs*heads*dim), d.New(device.BF16, seqs*heads*dim), randomBuffer(d, device.BF16, seqs*sinks*kv*dim)
	rope := d.NewRope([]float64{1, 0.5, 0.1, 0.01}, room, 1, false)
	r := &device.Replay{Pos: make([]int32, seqs), Shift: make([]int32, seqs*sinks), Lens: make([]int, seqs)}
	row := device.Rows{Buffer: rows, LD: kv * dim}
	view := func(b device.Buffer) device.Heads {
		return device.Heads{Buffer: b, Seq: heads * dim, Head: dim, Row: heads * dim}
	}
	for i := range 4 {
		r.First = 5 + i
		for n := range seqs {
			r.Pos[n], r.Lens[n] = int32(r.First), r.First+1
		}
		d.Replay(r, func() {
			d.RotateStore(rope, device.Rows{Buffer: q, LD: heads * dim}, row, row, r.Pos, heads, dim, k, v, r.First, 1)
			d.RotateStore(rope, device.Rows{}, row, row, r.Shift, 0, dim, k, v, 0, sinks)
			s := device.Scores{Batch: seqs, Queries: 1, Keys: room, KeyLens: r.Lens, Heads: heads, KVHeads: kv, HeadDim: dim, Scale: 0.1, Causal: true, Window: 4, Sinks: sinks}
			d.Attend(s, view(out), device.Buffer{}, view(q), k, v)
		})
	}
	if rec := r.State.(*recording); rec.graph == nil {
		t.Errorf("not recorded: %v", rec.err)
	}
	d.Forget(r)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkDecodeInts times attention of a token to caches of integers and, for comparison, of bfloat16.
func BenchmarkDecodeInts(b *testing.B) {
	d, err := Open(0, Options{Activations: device.BF16})
	if err != nil {
		b.Skip(err)
	}
	speed := copySpeed(d)
	b.Logf("a copy reads and writes %.0f GB/s", speed/1e9)
	const heads, dim = 32, 128
	for _, kv := range []int{32, 8, 4, 1} {
		for _, batch := range []int{1, 16} {
			for _, keys := range []int{2048, 8192, 32768} {
				for f, name := range map[device.Format]string{device.BF16: "bf16", device.Int8: "int8", device.Int4: "int4"} {
					n, bytes := batch*kv*keys, f.Bytes(dim)
					cache := func() device.Heads {
						h := device.Heads{Buffer: d.New(f, n*dim), Seq: kv * keys * dim, Head: keys * dim, Row: dim}
						if f.Scaled() {
							h.Scales = d.New(device.F32, n)
						}
						x := randomBuffer(d, device.BF16, batch*kv*dim*64)
						for t := 0; t < keys; t += 64 {
							d.Store(h, h, t, x, x, batch, 64, dim)
						}
						d.Free(x)
						return h
					}
					k, v := cache(), cache()
					if f.Scaled() {
						bytes += 4
					}
					row := func() device.Heads {
						return device.Heads{Buffer: randomBuffer(d, device.BF16, batch*heads*dim), Seq: heads * dim, Head: dim, Row: heads * dim}
					}
					q, out := row(), row()
					s := device.Scores{Batch: batch, Queries: 1, Keys: keys, Heads: heads, KVHeads: kv, HeadDim: dim, Scale: 0.09, Causal: true}
					b.Run(fmt.Sprintf("kv=%d/batch=%d/keys=%d/%s", kv, batch, keys, name), func(b *testing.B) {
						timed(b, d, float64(2*n*bytes), speed, func() { d.Attend(s, out, device.Buffer{}, q, k, v) })
					})
					for _, x := range []device.Buffer{k.Buffer, v.Buffer, k.Scales, v.Scales, q.Buffer, out.Buffer} {
						d.Free(x)
					}
					d.pool.release()
				}
			}
		}
	}
}
