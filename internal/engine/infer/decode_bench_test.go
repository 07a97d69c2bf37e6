//go:build cuda && linux

package infer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/device/cuda"
	"gqa/internal/model"
)

// filled returns random numbers, of which only the first million differ.
func filled(d device.Device, f device.Format, n int, around float32) device.Buffer {
	r, block := rand.New(rand.NewPCG(1, 2)), make([]float32, min(n, 1<<20))
	for i := range block {
		block[i] = around + float32(r.NormFloat64())/64
	}
	b := d.New(f, n)
	d.Write(b.Slice(0, len(block)), block)
	for at := len(block); at < n; at *= 2 {
		d.Copy(b.Slice(at, min(2*at, n)), b.Slice(0, min(at, n-at)))
	}
	return b
}

// randomDecoder returns a decoder with random weights in bfloat16, and the bytes of those that a step reads.
func randomDecoder(b *testing.B, dev device.Device, config string) (d *Decoder, bytes int, weights []device.Buffer) {
	arch, err := configs.Resolve([]byte(config), "")
	if err != nil {
		b.Fatal(err)
	}
	params, err := arch.Params()
	if err != nil {
		b.Fatal(err)
	}
	byName := map[string]Mat{}
	for _, p := range params {
		format, around := device.BF16, float32(0)
		if len(p.Shape) < 2 || p.IsNorm() {
			format, around = device.F32, 1
		}
		m := Mat{Buffer: filled(dev, format, p.Size(), around), Rows: p.Shape[0], Cols: p.Size() / p.Shape[0]}
		byName[p.Name] = m
		weights = append(weights, m.Buffer)
		if p.Role != configs.Embed {
			bytes += p.Size() * format.Size()
		}
	}
	d = &Decoder{
		Arch: arch, Formats: Formats{Weights: device.BF16, Cache: device.BF16}, device: dev, eng: newEngine(dev),
		model: model.New(arch, func(name string) (Mat, bool) { m, ok := byName[name]; return m, ok }),
	}
	d.replay = newReplay(d)
	return d, bytes, weights
}

// BenchmarkDecodeStep times a step of a model of 7 billion parameters and the choice of the likeliest tokens. The roofline is the time
// in which a copy would move the bytes of the weights, of keys and of values.
func BenchmarkDecodeStep(b *testing.B) {
	dev, err := cuda.Open(0, cuda.Options{Activations: device.BF16})
	if err != nil {
		b.Skip(err)
	}
	const n, times = 1 << 28, 10
	x, y := dev.New(device.F32, n), dev.New(device.F32, n)
	dev.Clear(x)
	dev.Host(x.Slice(0, 1))
	start := time.Now()
	for range times {
		dev.Copy(y, x)
	}
	dev.Host(y.Slice(0, 1))
	speed := times * 2 * 4 * n / time.Since(start).Seconds()
	b.Logf("a copy reads and writes %.0f GB/s", speed/1e9)
	dev.Free(x)
	dev.Free(y)
	for _, kv := range []int{32, 8, 1} {
		d, weights, all := randomDecoder(b, dev, fmt.Sprintf(`{"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
			"num_attention_heads": 32, "num_key_value_heads": %d, "intermediate_size": 11008, "max_position_embeddings": 32768}`, kv))
		for _, batch := range []int{1, 16, 64} {
			for _, context := range []int{2048, 8192, 32768} {
				bytes := float64(weights) + float64(d.Arch.KVBytesPerToken(2))*float64(batch*context)
				if bytes > 120e9 {
					continue
				}
				for _, repeated := range []bool{true, false} {
					b.Run(fmt.Sprintf("kv=%d/batch=%d/context=%d/graph=%v", kv, batch, context, repeated), func(b *testing.B) {
						benchmarkStep(b, dev, d, batch, context, bytes, speed, repeated)
					})
				}
			}
		}
		d.Release()
		for _, w := range all {
			dev.Free(w)
		}
		dev.Trim()
	}
}

func benchmarkStep(b *testing.B, dev *cuda.Device, d *Decoder, batch, context int, bytes, speed float64, repeated bool) {
	if replay := d.replay; !repeated {
		d.replay = nil
		defer func() { d.replay = replay }()
	}
	c := &Cache{Seqs: batch, Capacity: context, store: store{device: dev}}
	for i := range d.Arch.Layers {
		for _, v := range []*[]device.Heads{&c.keys, &c.values} {
			head := context * d.Arch.HeadDim
			n := batch * d.Arch.LayerKV(i) * head
			*v = append(*v, device.Heads{Buffer: filled(dev, device.BF16, n, 0), Seq: d.Arch.LayerKV(i) * head, Head: head, Row: d.Arch.HeadDim})
		}
	}
	ids := make([]int32, batch)
	step := func() {
		c.Len = context - 1
		logits, err := d.Step(c, ids)
		if err != nil {
			b.Fatal(err)
		}
		d.Argmax(ids, logits)
	}
	for range 3 { // compiles, records, repeats
		step()
	}
	b.ResetTimer()
	for range b.N {
		step()
	}
	b.StopTimer()
	each := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(1e3*each, "ms/step")
	b.ReportMetric(bytes/1e9, "GB")
	b.ReportMetric(100*bytes/speed/each, "%ofroofline")
	if err := dev.Err(); err != nil {
		b.Fatal(err)
	}
	d.forget()
	for i := range c.keys {
		dev.Free(c.keys[i].Buffer)
		dev.Free(c.values[i].Buffer)
	}
	dev.Trim()
}
