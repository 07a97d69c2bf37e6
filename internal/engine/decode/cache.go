package decode

import (
	"context"
	"math/rand/v2"

	"gqa/configs"
	"gqa/internal/kernels"
	"gqa/internal/ops"
)

// Cache holds the keys and values of Seqs sequences, all of Len tokens, with room for Capacity; and, behind an encoder, those
// of cross-attention to SourceLen tokens of each, which Encode fills once.
type Cache struct {
	Seqs, Capacity, Len int
	SourceLen           int

	store
	cross      store
	sourceLens []int // how many of SourceLen are not padding; nil: all
	read       readIDs
}

// store is the keys and values of one kind of site. It holds KV heads only: each site's slice is [seqs, kvHeads, capacity,
// headDim], so that one head's keys are read as one stream.
type store struct {
	headDim      int
	keys, values []kernels.View // by site
	moving       move
	moveTokens   func(lo, hi int) // of moving; made once, as it would be allocated
}

// move is keys and values on their way to a site.
type move struct {
	site, first int
	batch       ops.Batch
	k, v        Mat
}

// newStore makes room for seqs sequences of capacity tokens at each of sites, which have as many KV heads as kvHeads says, kept
// in format.
func newStore(sites int, kvHeads func(site int) int, headDim, seqs, capacity int, format kernels.Half) store {
	s := store{headDim: headDim}
	for i := range sites {
		s.keys = append(s.keys, s.site(kvHeads(i), seqs, capacity, format))
		s.values = append(s.values, s.site(kvHeads(i), seqs, capacity, format))
	}
	return s
}

// site is room for one site's keys or values.
func (s *store) site(kvHeads, seqs, capacity int, format kernels.Half) kernels.View {
	head := capacity * s.headDim
	v := kernels.View{Format: format, Seq: kvHeads * head, Head: head, Row: s.headDim}
	if size := seqs * v.Seq; format == kernels.Full {
		v.Data = make([]float32, size)
		kernels.HugePages(v.Data)
	} else {
		v.Half = make([]uint16, size)
		kernels.HugePages(v.Half)
	}
	return v
}

// newCache makes room for seqs sequences of capacity tokens, kept in format.
func newCache(a *configs.Arch, seqs, capacity int, format kernels.Half) *Cache {
	return &Cache{Seqs: seqs, Capacity: capacity, store: newStore(a.Layers, a.LayerKV, a.HeadDim, seqs, capacity, format)}
}

// Bytes is the cache's size in memory.
func (c *Cache) Bytes() int64 { return c.store.bytes() + c.cross.bytes() }

func (s *store) bytes() int64 {
	var n int64
	for i := range s.keys {
		n += 2 * int64(4*len(s.keys[i].Data)+2*len(s.keys[i].Half))
	}
	return n
}

// Fill pretends that n tokens have been read, with random keys and values: for timing a decode without its prefill.
func (c *Cache) Fill(ctx context.Context, n int) {
	c.store.fill(ctx, c.Seqs)
	c.Len, c.read.ids = n, nil
}

func (s *store) fill(ctx context.Context, seqs int) {
	r := rand.New(rand.NewPCG(1, 1))
	row := make([]float32, s.headDim)
	for i := range s.keys {
		for at := 0; at < seqs*s.keys[i].Seq && ctx.Err() == nil; at += s.headDim {
			for _, v := range []kernels.View{s.keys[i], s.values[i]} {
				for j := range row {
					row[j] = r.Float32() - 0.5
				}
				put(v, at, row)
			}
		}
	}
}

// Truncate forgets all but the first n tokens.
func (c *Cache) Truncate(n int) { c.Len = min(c.Len, n) }

// extend writes the batch's keys and values behind those of the site, and views them all.
func (c *Cache) extend(site int, b ops.Batch, k, v Mat) (keys, values kernels.View) {
	c.write(site, b, c.Len, k, v)
	return c.keys[site], c.values[site]
}

// write puts the keys and values of the batch's tokens at a site, from token first of each sequence on. Most of the time goes
// into fetching the places they come to, each far from the others: all threads do so.
func (s *store) write(site int, b ops.Batch, first int, k, v Mat) {
	const headsPerTask = 8
	s.moving = move{site, first, b, k, v}
	if s.moveTokens == nil {
		s.moveTokens = s.move
	}
	heads := s.keys[site].Seq / s.keys[site].Head
	kernels.For(b.Seqs*b.Len, max(1, headsPerTask/heads), s.moveTokens)
	s.moving = move{}
}

// move is write for tokens [lo,hi) of the batch.
func (s *store) move(lo, hi int) {
	m := &s.moving
	keys, values := s.keys[m.site], s.values[m.site]
	for i := lo; i < hi; i++ {
		seq, t := i/m.batch.Len, m.first+i%m.batch.Len
		for h := range keys.Seq / keys.Head {
			at := seq*keys.Seq + h*keys.Head + t*keys.Row
			from := i*m.k.Cols + h*s.headDim
			put(keys, at, m.k.Data[from:from+s.headDim])
			put(values, at, m.v.Data[from:from+s.headDim])
		}
	}
}

// put writes one head's row of a token.
func put(v kernels.View, at int, row []float32) {
	if v.Format == kernels.Full {
		copy(v.Data[at:], row)
	} else {
		kernels.EncodeHalf(v.Format, v.Half[at:at+len(row)], row)
	}
}
