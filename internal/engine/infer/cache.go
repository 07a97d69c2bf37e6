package infer

import (
	"context"
	"fmt"
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
	kept       Kept
	sinks      []sinks // by site; nil if there are none
	filled     bool    // by Fill, with numbers that may stand for any tokens
	lost       bool    // tokens are missing that Truncate should have left
	cross      store
	sourceLens []int // number of tokens of SourceLen that are not padding; nil: all
	read       readIDs
}

// Kept is what a cache keeps: its format and, if Window is not 0, which tokens. A token then sees the last Window tokens, itself
// included, and the first Sinks of its sequence, and others are dropped (StreamingLLM; Xiao et al., arXiv 2309.17453). As there,
// rotary positions are those in the cache: sinks come right before the window. Learned positions stay those in the text.
type Kept struct {
	Format        device.Format // of keys and values
	Window, Sinks int
}

// Tokens returns how many of n tokens of a sequence are kept.
func (k Kept) Tokens(n int) int {
	if k.Window == 0 {
		return n
	}
	return min(n, k.Sinks+k.Window)
}

// RowBytes returns the size of a row of n numbers in a cache of a format, with its scale.
func RowBytes(f device.Format, n int) int {
	size := f.Bytes(n)
	if f.Scaled() {
		size += device.F32.Size()
	}
	return size
}

// store holds the keys and values of one kind of site. It stores only KV heads: each site's slice is [seqs, kvHeads,
// capacity, headDim], so that the keys of one head are contiguous. Of latent attention it holds latents and rotary keys, as the keys of
// one head; the values are the latents in them, and not stored.
type store struct {
	device       device.Device
	latent       bool
	keys, values []device.Heads // indexed by site
}

// newStore returns a store for seqs sequences of capacity tokens at each site, which has size(site) heads of keys of some width, in
// format.
func newStore(d device.Device, sites int, latent bool, size func(site int) (heads, width int), seqs, capacity int, format device.Format) store {
	s := store{device: d, latent: latent}
	for i := range sites {
		heads, width := size(i)
		s.keys = append(s.keys, newHeads(d, heads, width, seqs, capacity, format))
		if latent {
			s.values = append(s.values, s.keys[i])
		} else {
			s.values = append(s.values, newHeads(d, heads, width, seqs, capacity, format))
		}
	}
	return s
}

// selfSize returns the heads of a layer's self-attention whose keys are in a cache, and their width.
func selfSize(a *configs.Arch) func(layer int) (heads, width int) {
	return func(layer int) (heads, width int) {
		rows, width := a.CacheRows(layer)
		if a.IsLatent() {
			return rows, width
		}
		return rows / 2, width
	}
}

// stored returns the heads of a site that have memory of their own.
func (s *store) stored(site int) []device.Heads {
	if s.latent {
		return s.keys[site : site+1]
	}
	return []device.Heads{s.keys[site], s.values[site]}
}

// newHeads returns room for the keys or values of one site.
func newHeads(d device.Device, kvHeads, headDim, seqs, capacity int, format device.Format) device.Heads {
	head, rows := capacity*headDim, seqs*kvHeads*capacity
	h := device.Heads{Buffer: d.New(format, rows*headDim), Seq: kvHeads * head, Head: head, Row: headDim}
	if format.Scaled() {
		h.Scales = d.New(device.F32, rows)
	}
	return h
}

// newCache returns a cache for seqs sequences of capacity tokens.
func newCache(d device.Device, a *configs.Arch, seqs, capacity int, kept Kept) *Cache {
	s := newStore(d, a.Layers, a.IsLatent(), selfSize(a), seqs, kept.Tokens(capacity), kept.Format)
	c := &Cache{Seqs: seqs, Capacity: capacity, store: s, kept: kept}
	for i := range a.Layers {
		if kept.Sinks > 0 {
			c.sinks = append(c.sinks, newSinks(d, seqs*min(kept.Sinks, capacity), a.LayerKV(i)*a.HeadDim))
		}
	}
	return c
}

// Reshaped returns an empty cache in the memory of c, for seqs sequences of capacity tokens, no more in all than c has room for. c
// cannot be used while the result is. It returns an error for a cache with a window, whose room is not in proportion to its capacity.
func (c *Cache) Reshaped(seqs, capacity int) (*Cache, error) {
	if c.kept.Window > 0 {
		return nil, fmt.Errorf("a cache with a window of %d tokens cannot be used for other numbers of sequences and tokens", c.kept.Window)
	}
	r := *c
	r.Seqs, r.Capacity, r.Len, r.store = seqs, capacity, 0, c.store.reshaped(c.Seqs, seqs, capacity)
	if r.read.ids != nil {
		r.read = readIDs{ids: r.read.ids[:seqs*capacity]}
	}
	return &r, nil
}

// reshaped returns a store for seqs sequences of capacity tokens in the memory of s, which has room for of sequences.
func (s *store) reshaped(of, seqs, capacity int) store {
	view := func(h device.Heads) device.Heads {
		kvHeads := h.Len() / of / h.Head
		head := capacity * h.Row
		v := device.Heads{Buffer: h.Slice(0, seqs*kvHeads*head), Seq: kvHeads * head, Head: head, Row: h.Row}
		if !h.Scales.None() {
			v.Scales = h.Scales.Slice(0, seqs*kvHeads*capacity)
		}
		return v
	}
	r := store{device: s.device, latent: s.latent}
	for i := range s.keys {
		r.keys, r.values = append(r.keys, view(s.keys[i])), append(r.values, view(s.values[i]))
	}
	return r
}

// First returns a cache of the first n sequences of c, in the same memory. The tokens that one of the two reads are not counted in the
// other; see Repeat.
func (c *Cache) First(n int) *Cache {
	f := *c
	f.Seqs, f.sinks = n, nil
	for _, s := range c.sinks {
		f.sinks = append(f.sinks, s.first(s.keys.Rows/c.Seqs*n))
	}
	return &f
}

// Repeat makes all sequences equal to that of first, which is c.First(1).
func (c *Cache) Repeat(first *Cache) {
	c.Len, c.read.long, c.filled, c.lost = first.Len, first.read.long, first.filled, first.lost
	for seq := 1; seq < c.Seqs && c.read.ids != nil; seq++ {
		copy(c.read.ids[seq*c.Capacity:], c.read.ids[:c.Len])
	}
	for i := range c.keys {
		for _, h := range c.stored(i) {
			first := ofSequence(h, 0)
			for seq := 1; seq < c.Seqs; seq++ {
				other := ofSequence(h, seq)
				c.device.Copy(other.Buffer, first.Buffer)
				if !first.Scales.None() {
					c.device.Copy(other.Scales, first.Scales)
				}
			}
		}
	}
	for _, s := range c.sinks {
		for _, m := range []Mat{s.keys, s.values} {
			each := m.Len() / c.Seqs
			for seq := 1; seq < c.Seqs; seq++ {
				c.device.Copy(m.Slice(seq*each, (seq+1)*each), m.Slice(0, each))
			}
		}
	}
}

func (s *store) free() {
	for i := range s.keys {
		for _, h := range s.stored(i) {
			free(s.device, h.Buffer, h.Scales)
		}
	}
	s.keys, s.values = nil, nil
}

// free frees buffers of a device with memory of its own. The processor would keep them for others of the same lengths, which caches
// seldom have, so there they are left to the garbage collector.
func free(d device.Device, all ...device.Buffer) {
	if _, own := d.(device.Roomy); !own {
		return
	}
	for _, b := range all {
		if !b.None() {
			d.Free(b)
		}
	}
}

// Bytes returns the cache's size in memory.
func (c *Cache) Bytes() int64 { return c.store.bytes() + c.cross.bytes() }

func (s *store) bytes() int64 {
	var n int64
	for i := range s.keys {
		for _, h := range s.stored(i) {
			n += int64(h.Format().Bytes(h.Len()) + device.F32.Bytes(h.Scales.Len()))
		}
	}
	return n
}

// Fill fills the cache with random keys and values as if n tokens had been read, for timing decoding without a prefill.
func (c *Cache) Fill(ctx context.Context, n int) {
	c.store.fill(ctx, c.Seqs, c.kept.Tokens(n))
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range c.sinks {
		for _, m := range []Mat{s.keys, s.values} {
			c.device.Write(m.Buffer, randoms(r, m.Len()))
		}
	}
	c.Len, c.read.ids, c.filled = n, nil, true
}

// fill stores random keys and values for n tokens of each sequence: the same again and again, as drawing numbers takes much longer than
// storing them.
func (s *store) fill(ctx context.Context, seqs, n int) {
	const numbers = 1 << 20
	r := rand.New(rand.NewPCG(1, 1))
	for i := range s.keys {
		row := seqs * s.keys[i].Seq / s.keys[i].Head * s.keys[i].Row // of a token of every sequence
		tokens := min(n, max(1, numbers/row))
		k, v := s.random(r, tokens*row), s.random(r, tokens*row)
		for first := 0; first < n && ctx.Err() == nil; first += tokens {
			m := min(tokens, n-first)
			s.store(s.keys[i], s.values[i], first, k.Slice(0, m*row), v.Slice(0, m*row), seqs, m)
		}
		s.device.Unload(k)
		s.device.Unload(v)
	}
}

func (s *store) random(r *rand.Rand, n int) device.Buffer { return s.device.Put(randoms(r, n)) }

// randoms returns n numbers from -0.5 to 0.5.
func randoms(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = r.Float32() - 0.5
	}
	return x
}

// Truncate drops all but the first n tokens. With a window, an earlier token that has been dropped does not come back: the next
// Step returns an error.
func (c *Cache) Truncate(n int) {
	if n < c.Len && c.Len > c.kept.Tokens(c.Len) && n > 0 && !c.filled {
		c.lost = true
	}
	c.Len, c.lost = min(c.Len, n), c.lost && n > 0
}

// extend appends the batch's keys and values at a site.
func (c *Cache) extend(site int, b ops.Batch, k, v Mat) {
	c.write(site, b, c.slot(c.Len), k, v)
	c.keepSinks(site, b, c.Len, k, v)
}

// slot returns where token t of a sequence is kept.
func (c *Cache) slot(t int) int {
	if sinks := c.kept.Sinks; c.kept.Window > 0 && t >= sinks {
		return sinks + (t-sinks)%c.kept.Window
	}
	return t
}

// write stores the keys and values of the batch's tokens at a site, starting at token first of each sequence.
func (s *store) write(site int, b ops.Batch, first int, k, v Mat) {
	s.store(s.keys[site], s.values[site], first, k.Buffer, v.Buffer, b.Seqs, b.Len)
}

// store stores keys and values, or of latent attention keys only.
func (s *store) store(keys, values device.Heads, first int, k, v device.Buffer, seqs, tokens int) {
	if s.latent {
		values, v = device.Heads{}, device.Buffer{}
	}
	s.device.Store(keys, values, first, k, v, seqs, tokens, keys.Row)
}

// storeKept stores, of the first tokens of every sequence, those that are kept.
func (c *Cache) storeKept(site int, b ops.Batch, k, v Mat) {
	c.keepSinks(site, b, 0, k, v)
	if c.kept.Tokens(b.Len) == b.Len {
		c.write(site, b, 0, k, v)
		return
	}
	for seq := range b.Seqs {
		for t := 0; t < b.Len; {
			if t == c.kept.Sinks {
				t = b.Len - c.kept.Window
			}
			end := b.Len
			if t < c.kept.Sinks {
				end = c.kept.Sinks
			} else if wrap := t + c.kept.Window - (t-c.kept.Sinks)%c.kept.Window; wrap < end {
				end = wrap
			}
			from, to := (seq*b.Len+t)*k.Cols, (seq*b.Len+end)*k.Cols
			c.store.store(ofSequence(c.keys[site], seq), ofSequence(c.values[site], seq), c.slot(t), k.Slice(from, to), v.Slice(from, to), 1, end-t)
			t = end
		}
	}
}

// ofSequence returns the rows of a sequence.
func ofSequence(h device.Heads, seq int) device.Heads {
	h.Buffer = h.Slice(seq*h.Seq, (seq+1)*h.Seq)
	if !h.Scales.None() {
		h.Scales = h.Scales.Slice(seq*h.Seq/h.Row, (seq+1)*h.Seq/h.Row)
	}
	return h
}
