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
	keys, values     []kernels.View // by site
}

// newCache makes room for seqs sequences of capacity tokens, kept in format.
func newCache(a *configs.Arch, seqs, capacity int, format kernels.Half) *Cache {
	c := &Cache{Seqs: seqs, Capacity: capacity, kvHeads: a.KVHeads, headDim: a.HeadDim}
	for range a.Layers {
		c.keys = append(c.keys, c.site(format))
		c.values = append(c.values, c.site(format))
	}
	return c
}

// site is room for one site's keys or values.
func (c *Cache) site(format kernels.Half) kernels.View {
	head := c.Capacity * c.headDim
	v := kernels.View{Format: format, Seq: c.kvHeads * head, Head: head, Row: c.headDim}
	if size := c.Seqs * v.Seq; format == kernels.Full {
		v.Data = make([]float32, size)
	} else {
		v.Half = make([]uint16, size)
	}
	return v
}

// Bytes is the cache's size in memory.
func (c *Cache) Bytes() int64 {
	var n int64
	for i := range c.keys {
		n += 2 * int64(4*len(c.keys[i].Data)+2*len(c.keys[i].Half))
	}
	return n
}

// Fill pretends that n tokens have been read, with random keys and values: for timing a decode without its prefill.
func (c *Cache) Fill(n int) {
	r := rand.New(rand.NewPCG(1, 1))
	row := make([]float32, c.headDim)
	for i := range c.keys {
		for at := 0; at < c.Seqs*c.keys[i].Seq; at += c.headDim {
			for _, v := range []kernels.View{c.keys[i], c.values[i]} {
				for j := range row {
					row[j] = r.Float32() - 0.5
				}
				put(v, at, row)
			}
		}
	}
	c.Len = n
}

// Truncate forgets all but the first n tokens.
func (c *Cache) Truncate(n int) { c.Len = min(c.Len, n) }

// extend writes the batch's keys and values behind those of the site, and views them all.
func (c *Cache) extend(site int, b ops.Batch, k, v Mat) (keys, values kernels.View) {
	keys, values = c.keys[site], c.values[site]
	for i := range b.Seqs * b.Len {
		seq, t := i/b.Len, c.Len+i%b.Len
		for h := range c.kvHeads {
			at := seq*keys.Seq + h*keys.Head + t*keys.Row
			from := i*k.Cols + h*c.headDim
			put(keys, at, k.Data[from:from+c.headDim])
			put(values, at, v.Data[from:from+c.headDim])
		}
	}
	return keys, values
}

// put writes one head's row of a token.
func put(v kernels.View, at int, row []float32) {
	if v.Format == kernels.Full {
		copy(v.Data[at:], row)
	} else {
		kernels.EncodeHalf(v.Format, v.Half[at:at+len(row)], row)
	}
}
