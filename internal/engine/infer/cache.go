package infer

import (
	"context"
	"math/rand/v2"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/ops"
)

// Cache holds the keys and values of Seqs sequences of Len tokens each, with room for Capacity tokens. For an
// encoder-decoder it also holds those of cross-attention to SourceLen tokens per sequence, which Encode fills once.
type Cache struct {
	Seqs, Capacity, Len int
	SourceLen           int

	store
	cross      store
	sourceLens []int // number of tokens of SourceLen that are not padding; nil: all
	read       readIDs
}

// store holds the keys and values of one kind of site. It stores only KV heads: each site's slice is [seqs, kvHeads,
// capacity, headDim], so that the keys of one head are contiguous.
type store struct {
	device       device.Device
	headDim      int
	keys, values []device.Heads // indexed by site
}

// newStore returns a store for seqs sequences of capacity tokens at each site, with kvHeads(site) KV heads, in format.
func newStore(d device.Device, sites int, kvHeads func(site int) int, headDim, seqs, capacity int, format device.Format) store {
	s := store{device: d, headDim: headDim}
	for i := range sites {
		s.keys = append(s.keys, s.site(kvHeads(i), seqs, capacity, format))
		s.values = append(s.values, s.site(kvHeads(i), seqs, capacity, format))
	}
	return s
}

// site returns room for the keys or values of one site.
func (s *store) site(kvHeads, seqs, capacity int, format device.Format) device.Heads {
	head := capacity * s.headDim
	return device.Heads{Buffer: s.device.New(format, seqs*kvHeads*head), Seq: kvHeads * head, Head: head, Row: s.headDim}
}

// newCache returns a cache for seqs sequences of capacity tokens, in format.
func newCache(d device.Device, a *configs.Arch, seqs, capacity int, format device.Format) *Cache {
	return &Cache{Seqs: seqs, Capacity: capacity, store: newStore(d, a.Layers, a.LayerKV, a.HeadDim, seqs, capacity, format)}
}

// Bytes returns the cache's size in memory.
func (c *Cache) Bytes() int64 { return c.store.bytes() + c.cross.bytes() }

func (s *store) bytes() int64 {
	var n int64
	for i := range s.keys {
		n += 2 * int64(s.keys[i].Len()*s.keys[i].Format().Size())
	}
	return n
}

// Fill fills the cache with random keys and values as if n tokens had been read, for timing decoding without a prefill.
func (c *Cache) Fill(ctx context.Context, n int) {
	c.store.fill(ctx, c.Seqs)
	c.Len, c.read.ids = n, nil
}

func (s *store) fill(ctx context.Context, seqs int) {
	r := rand.New(rand.NewPCG(1, 1))
	row := make([]float32, s.headDim)
	for i := range s.keys {
		for at := 0; at < seqs*s.keys[i].Seq && ctx.Err() == nil; at += s.headDim {
			for _, v := range []device.Heads{s.keys[i], s.values[i]} {
				for j := range row {
					row[j] = r.Float32() - 0.5
				}
				s.device.Write(v.Slice(at, at+s.headDim), row)
			}
		}
	}
}

// Truncate drops all but the first n tokens.
func (c *Cache) Truncate(n int) { c.Len = min(c.Len, n) }

// extend appends the batch's keys and values at a site, and returns views of all of them.
func (c *Cache) extend(site int, b ops.Batch, k, v Mat) (keys, values device.Heads) {
	c.write(site, b, c.Len, k, v)
	return c.keys[site], c.values[site]
}

// write stores the keys and values of the batch's tokens at a site, starting at token first of each sequence.
func (s *store) write(site int, b ops.Batch, first int, k, v Mat) {
	s.device.Store(s.keys[site], s.values[site], first, k.Buffer, v.Buffer, b.Seqs, b.Len, s.headDim)
}
