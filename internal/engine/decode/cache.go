package decode

import (
	"math/rand/v2"

	"gqa/configs"
	"gqa/internal/kernels"
	"gqa/internal/ops"
)

// Cache holds the keys and values of Seqs sequences, all of Len tokens, with room for Capacity. It stores KV heads only:
// each site's slice is [Seqs, kvHeads, Capacity, headDim], so that one head's keys are read as one stream.
type Cache struct {
	Seqs, Capacity, Len int

	kvHeads, headDim int
	keys, values     [][]float32 // by site
}

// newCache makes room for seqs sequences of capacity tokens.
func newCache(a *configs.Arch, seqs, capacity int) *Cache {
	c := &Cache{Seqs: seqs, Capacity: capacity, kvHeads: a.KVHeads, headDim: a.HeadDim}
	for range a.Layers {
		size := seqs * capacity * a.KVDim()
		c.keys = append(c.keys, make([]float32, size))
		c.values = append(c.values, make([]float32, size))
	}
	return c
}

// Bytes is the cache's size in memory.
func (c *Cache) Bytes() int64 {
	return 2 * 4 * int64(len(c.keys)) * int64(c.Seqs) * int64(c.Capacity) * int64(c.kvHeads*c.headDim)
}

// Fill pretends that n tokens have been read, with random keys and values: for timing a decode without its prefill.
func (c *Cache) Fill(n int) {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range c.keys {
		for j := range c.keys[i] {
			c.keys[i][j], c.values[i][j] = r.Float32()-0.5, r.Float32()-0.5
		}
	}
	c.Len = n
}

// Truncate forgets all but the first n tokens.
func (c *Cache) Truncate(n int) { c.Len = min(c.Len, n) }

// extend writes the batch's keys and values behind those of the site, and views them all.
func (c *Cache) extend(site int, b ops.Batch, k, v Mat) (keys, values kernels.View) {
	keys, values = c.view(c.keys[site]), c.view(c.values[site])
	for i := range b.Seqs * b.Len {
		seq, t := i/b.Len, c.Len+i%b.Len
		for h := range c.kvHeads {
			at := seq*keys.Seq + h*keys.Head + t*keys.Row
			from := i*k.Cols + h*c.headDim
			copy(keys.Data[at:at+c.headDim], k.Data[from:])
			copy(values.Data[at:at+c.headDim], v.Data[from:])
		}
	}
	return keys, values
}

func (c *Cache) view(data []float32) kernels.View {
	head := c.Capacity * c.headDim
	return kernels.View{Data: data, Seq: c.kvHeads * head, Head: head, Row: c.headDim}
}
