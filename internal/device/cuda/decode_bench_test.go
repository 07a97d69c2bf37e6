//go:build cuda && linux

package cuda

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gqa/internal/cuda"
	"gqa/internal/device"
)

// copySpeed returns the bytes per second, read and written, of a copy of 1 GiB.
func copySpeed(d *Device) float64 {
	const n, times = 1 << 28, 10
	x, y := d.New(device.F32, n), d.New(device.F32, n)
	defer d.Free(x)
	defer d.Free(y)
	d.Clear(x)
	d.Copy(y, x)
	d.gpu.Synchronize()
	start := time.Now()
	for range times {
		d.Copy(y, x)
	}
	d.gpu.Synchronize()
	return times * 2 * 4 * n / time.Since(start).Seconds()
}

// randomBuffer returns random numbers, of which only the first million differ.
func randomBuffer(d *Device, f device.Format, n int) device.Buffer {
	r, block := rand.New(rand.NewPCG(1, 2)), make([]float32, min(n, 1<<20))
	for i := range block {
		block[i] = float32(r.NormFloat64()) / 16
	}
	b := d.New(f, n)
	d.Write(b.Slice(0, len(block)), block)
	for at := len(block); at < n; at *= 2 {
		d.Copy(b.Slice(at, min(2*at, n)), b.Slice(0, min(at, n-at)))
	}
	return b
}

// timed times f, which reads a number of bytes, as part of a graph, and reports the speed and the part of a copy's that it is.
func timed(b *testing.B, d *Device, bytes, speed float64, f func()) {
	const times = 16 // in a graph
	f()              // compiles
	var graph *cuda.Graph
	var err error
	kept := d.pool.record(func() {
		graph, err = d.gpu.Capture(func() {
			for range times {
				f()
			}
		})
	})
	defer d.putAll(kept)
	if err != nil {
		b.Fatal(err)
	}
	defer graph.Destroy()
	repeated(b, d, graph.Launch)
	each := b.Elapsed().Seconds() / float64(b.N*times)
	b.ReportMetric(1e6*each, "µs/op")
	b.ReportMetric(bytes/each/1e9, "GB/s")
	b.ReportMetric(100*bytes/each/speed, "%ofcopy")
	if err := d.Err(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDecode times what decoding consists of: attention of a token to a cache, in bfloat16, and products of few rows by the weights
// of a model of 7 billion parameters, by our own kernels and by cuBLASLt. There is more data than the GPU's caches hold.
func BenchmarkDecode(b *testing.B) {
	d, err := Open(0, Options{Activations: device.BF16})
	if err != nil {
		b.Skip(err)
	}
	speed := copySpeed(d)
	b.Logf("a copy reads and writes %.0f GB/s", speed/1e9)
	plan, rows := decodePlan, skinny
	defer func() { decodePlan, skinny = plan, rows }()
	for _, kv := range []int{32, 8, 1} {
		for _, batch := range []int{1, 16, 64} {
			for _, keys := range []int{2048, 8192, 32768} {
				benchmarkAttention(b, d, speed, batch, kv, keys)
			}
		}
	}
	decodePlan = plan
	for _, s := range []struct {
		name string
		k    int
		n    []int
	}{{"qkv", 4096, []int{4096, 4096, 4096}}, {"qkv of 8", 4096, []int{4096, 1024, 1024}}, {"qkv of 1", 4096, []int{4096, 128, 128}}, {"o", 4096, []int{4096}}, {"gate and up", 4096, []int{11008, 11008}}, {"down", 11008, []int{4096}}, {"head", 4096, []int{32000}}} {
		benchmarkSkinny(b, d, speed, s.name, s.k, s.n)
	}
}

func benchmarkAttention(b *testing.B, d *Device, speed float64, batch, kv, keys int) {
	const heads, dim = 32, 128
	n := batch * kv * keys * dim
	if 4*n > 64<<30 {
		return
	}
	cache := func() device.Heads {
		return device.Heads{Buffer: randomBuffer(d, device.BF16, n), Seq: kv * keys * dim, Head: keys * dim, Row: dim}
	}
	k, v := cache(), cache()
	row := func() device.Heads {
		return device.Heads{Buffer: randomBuffer(d, device.BF16, batch*heads*dim), Seq: heads * dim, Head: dim, Row: heads * dim}
	}
	q, out := row(), row()
	s := device.Scores{Batch: batch, Queries: 1, Keys: keys, Heads: heads, KVHeads: kv, HeadDim: dim, Scale: 0.09, Causal: true}
	before := decodePlan
	for _, tensor := range []int{1, 2, 1 << 10} { // query rows from which tensor cores are used
		for _, splits := range []int{0, 1, 2, 4, 8, 16, 32, 64, 128} { // 0: as planned
			if splits > 0 && (testing.Short() || tensor != before.tensorRows) {
				continue
			}
			b.Run(fmt.Sprintf("attention/kv=%d/batch=%d/keys=%d/tensor=%d/splits=%d", kv, batch, keys, tensor, splits), func(b *testing.B) {
				decodePlan.tensorRows, decodePlan.splits = tensor, splits
				timed(b, d, float64(4*n), speed, func() { d.Attend(s, out, device.Buffer{}, q, k, v) })
			})
		}
	}
	decodePlan = before
	for _, x := range []device.Heads{k, v, q, out} {
		d.Free(x.Buffer)
	}
	d.pool.release()
}

func benchmarkSkinny(b *testing.B, d *Device, speed float64, name string, k int, ns []int) {
	const sets = 8 // of weights, which are used in turn
	var ps [sets][]device.Product
	weights := 0
	x := randomBuffer(d, device.BF16, 64*k)
	for i := range ps {
		weights = 0
		for _, n := range ns {
			weights += n * k
			ps[i] = append(ps[i], device.Product{N: n, Y: d.New(device.BF16, 64*n), W: randomBuffer(d, device.BF16, n*k)})
		}
	}
	before, streamedBefore := skinny, streamed
	for _, rows := range []int{1, 4, 16, 32, 64} {
		for _, how := range []string{"planned", "tiles", "streams", "plain", "cublas"} {
			if rows > 16 && how != "cublas" || rows > 4 && how == "plain" {
				continue
			}
			b.Run(fmt.Sprintf("product/%s/rows=%d/%s", name, rows, how), func(b *testing.B) {
				skinny, streamed = before, streamedBefore
				switch how {
				case "planned":
				case "tiles":
					streamed = 1 << 20
				case "streams":
					streamed = 0
				case "plain":
					skinny.tensor, skinny.same = 0, 4
				default:
					skinny.tensor, skinny.same = 0, 0
				}
				i := 0
				timed(b, d, float64(2*weights), speed, func() { d.Multiply(rows, k, x, ps[i%sets]); i++ })
			})
		}
	}
	skinny, streamed = before, streamedBefore
	d.Free(x)
	for _, all := range ps {
		for _, p := range all {
			d.Free(p.Y)
			d.Free(p.W)
		}
	}
	d.pool.release()
}
