package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gqa/configs"
	"gqa/internal/device"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// Decoder runs one model. It is not safe for concurrent use; the kernels use all threads.
type Decoder struct {
	Arch *configs.Arch
	Formats
	device device.Device
	size   int // number of weights
	model  *model.Model[Mat]
	eng    *engine
	body   mark // position in the arena after the last Hidden
	pos    []int32
	last   []int32
	replay *replay // nil: steps are not repeated
}

// Formats say how what a decoder reads in every step is stored. The zero value is f32, or for weights the device's format of
// activations.
type Formats struct {
	Weights device.Format // of matrices; norms and biases are always f32
	Cache   device.Format // of keys and values
	// Window and Sinks are those of Kept. They and Cache hold for a pass without a cache, too: each token sees the others as it
	// would if they had been in one.
	Window, Sinks int
}

// kept returns what is about caches.
func (f Formats) kept() Kept { return Kept{f.Cache, f.Window, f.Sinks} }

// New returns a decoder on dev for weights keyed by the forward pass's names, in f32.
func New(dev device.Device, arch *configs.Arch, all map[string][]float32) *Decoder {
	return newIn(dev, Formats{}, arch, all)
}

// newIn is like New but stores weights and cache in other formats.
func newIn(dev device.Device, f Formats, arch *configs.Arch, all map[string][]float32) *Decoder {
	d, _ := Build(dev, f, arch, model.FromMap(arch, all)) // FromMap never fails
	return d
}

// wholeRoles are those of weights of which rows are read by themselves, or the parts of heads multiplied.
var wholeRoles = []configs.Role{configs.Embed, configs.Positions, configs.TokenType, configs.KeyUp, configs.ValueUp}

// Build is like newIn but reads, converts and loads the weights one at a time.
func Build(dev device.Device, f Formats, arch *configs.Arch, weights model.Weights) (*Decoder, error) {
	byName, size := map[string]Mat{}, 0
	if err := checkKept(dev, arch, f.kept()); err != nil {
		return nil, err
	}
	err := weights(func(p configs.Param, data []float32) error {
		rows, cols := p.Shape[0], len(data)/p.Shape[0]
		whole := slices.Contains(wholeRoles, p.Role)
		format := device.F32
		if len(p.Shape) == 2 && p.Role != configs.Distances && !p.IsNorm() {
			format = cmp.Or(f.Weights, dev.Activations())
		}
		byName[p.Name] = Mat{Buffer: dev.Load(format, data, rows, cols, !whole), Rows: rows, Cols: cols}
		size += len(data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	weight := func(name string) (Mat, bool) {
		m, ok := byName[name]
		return m, ok
	}
	d := &Decoder{
		Arch:    arch,
		Formats: f,
		device:  dev,
		size:    size,
		model:   model.New(arch, weight),
		eng:     newEngine(dev),
	}
	d.replay = newReplay(d)
	return d, nil
}

// Until makes a pass end early once ctx is done; see device.Device. The caller must check ctx.
func (d *Decoder) Until(ctx context.Context) { d.device.Until(ctx) }

// preciseWeights is the maximum number of weights of a model that is run in float64: those of a T5-base. With more, a
// token takes too long.
const preciseWeights = 1 << 28

// Precise sets whether sums are computed in float64 where float32 is too inaccurate: in models with f32 weights whose
// scores are not scaled (T5). Their scores are large, and the softmax magnifies earlier rounding errors. This takes up
// to twenty times as long. The default is off. It reports false if the device cannot do what it should.
func (d *Decoder) Precise(on bool) (ok bool) {
	large := d.Arch.ScoreScale >= 1 || d.Arch.ScoreScale == 0 && !d.Arch.ScaleScores
	d.eng.device = d.device
	if !on || !large || d.Weights != device.F32 || d.size > preciseWeights {
		return true
	}
	p, ok := d.device.(device.Preciser)
	if ok {
		d.eng.device = p.Precise()
	}
	return ok
}

// CheckIDs returns an error if a token ID is outside the vocabulary.
func (d *Decoder) CheckIDs(ids []int32) error {
	for i, id := range ids {
		if id < 0 || int(id) >= d.Arch.Vocab {
			return fmt.Errorf("token %d has ID %d, outside the model's vocabulary of %d", i, id, d.Arch.Vocab)
		}
	}
	return nil
}

// CheckLength returns an error if tokens exceeds the model's number of positions; see configs.Arch.MaxPositions.
func (d *Decoder) CheckLength(tokens int) error {
	if limit := d.Arch.MaxPositions(); limit > 0 && tokens > limit {
		return fmt.Errorf("%d positions requested, but the model has %d", tokens, limit)
	}
	return nil
}

// Hidden runs a batch without a cache up to the head, and returns the hidden states [tokens, dim], valid until the
// decoder's next pass.
func (d *Decoder) Hidden(b ops.Batch) Mat {
	d.eng.reset()
	d.eng.cache, d.eng.kept = nil, d.kept()
	h := d.model.Hidden(d.eng, b)
	d.eng.settle()
	d.body = d.eng.arena.mark()
	return h
}

// Head maps rows [lo, hi) of the last Hidden, Read or Select to logits [hi-lo, vocab], valid until the next Head or pass.
func (d *Decoder) Head(hidden Mat, lo, hi int) Mat {
	d.eng.arena.rewind(d.body)
	rows := Mat{Buffer: hidden.Slice(lo*hidden.Cols, hi*hidden.Cols), Rows: hi - lo, Cols: hidden.Cols}
	return d.model.Logits(d.eng, rows)
}

// Logits is Hidden followed by Head for every row: [tokens, vocab].
func (d *Decoder) Logits(b ops.Batch) Mat {
	h := d.Hidden(b)
	return d.Head(h, 0, h.Rows)
}

// Step reads the next tokens of every sequence (ids [c.Seqs*n], sequence by sequence), appends their keys and values to
// the cache, and returns the logits after each sequence's last token: [c.Seqs, vocab], valid until the next pass. One
// Step prefills a prompt; after that n is 1.
func (d *Decoder) Step(c *Cache, ids []int32) (Mat, error) {
	if err := d.checkRoom(c, len(ids)); err != nil {
		return Mat{}, err
	}
	ids = d.reread(c, ids)
	if len(ids) > c.Seqs && c.Len > 0 && c.kept.Window > 0 {
		return d.stepEach(c, ids)
	}
	if len(ids) == c.Seqs && d.replay.repeats(c) {
		return d.replay.step(c, ids), nil
	}
	h := d.pass(c, ids)
	if n := len(ids) / c.Seqs; n > 1 {
		h = d.Select(h, d.lastOf(c.Seqs, n, 1))
	}
	return d.model.Logits(d.eng, h), nil
}

// Read is like Step, but returns the hidden states of all tokens that it was given, [c.Seqs*n, dim], for Select and Head. A cache with
// a window takes several tokens only at first.
func (d *Decoder) Read(c *Cache, ids []int32) (Mat, error) {
	if err := d.checkRoom(c, len(ids)); err != nil {
		return Mat{}, err
	}
	if n := len(ids) / c.Seqs; n > 1 && c.Len > 0 && c.kept.Window > 0 {
		return Mat{}, fmt.Errorf("%d tokens at once after %d, for a cache with a window: each drops another from it", n, c.Len)
	}
	read := d.reread(c, ids)
	h := d.pass(c, read)
	if len(read) > len(ids) {
		h = d.Select(h, d.lastOf(c.Seqs, len(read)/c.Seqs, len(ids)/c.Seqs))
	}
	d.eng.settle()
	d.body = d.eng.arena.mark()
	return h, nil
}

// checkRoom returns an error if the cache cannot take tokens.
func (d *Decoder) checkRoom(c *Cache, tokens int) error {
	n := tokens / c.Seqs
	switch {
	case n < 1 || tokens != n*c.Seqs:
		return fmt.Errorf("%d tokens for %d sequences", tokens, c.Seqs)
	case d.Arch.EncoderLayers > 0 && c.SourceLen == 0:
		return errors.New("the model's encoder has read nothing for this cache")
	case c.Len+n > c.Capacity:
		return fmt.Errorf("the cache has room for %d tokens, but %d are needed", c.Capacity, c.Len+n)
	case c.lost:
		return fmt.Errorf("the cache was cut to %d tokens, of which some had left its window of %d", c.Len, c.kept.Window)
	}
	return nil
}

// pass reads the next tokens of every sequence, and returns their hidden states.
func (d *Decoder) pass(c *Cache, ids []int32) Mat {
	n := len(ids) / c.Seqs
	d.pos = d.pos[:0]
	for i := range ids {
		d.pos = append(d.pos, int32(c.Len+i%n))
	}
	d.eng.reset()
	d.eng.cache, d.eng.kept = c, c.kept
	h := d.model.Hidden(d.eng, ops.Batch{IDs: ids, Pos: d.pos, Seqs: c.Seqs, Len: n})
	c.Len += n
	return h
}

// lastOf returns the indices of the last k of each sequence's n tokens.
func (d *Decoder) lastOf(seqs, n, k int) []int32 {
	d.last = d.last[:0]
	for seq := range seqs {
		for i := n - k; i < n; i++ {
			d.last = append(d.last, int32(seq*n+i))
		}
	}
	return d.last
}

// Select returns some rows of the last pass's hidden states, in the order of their indices, for Head.
func (d *Decoder) Select(hidden Mat, rows []int32) Mat {
	h := d.eng.Embed(hidden, rows, 0)
	d.body = d.eng.arena.mark()
	return h
}

// stepEach makes a step for one token of each sequence after the other, since each drops another from the window.
func (d *Decoder) stepEach(c *Cache, ids []int32) (logits Mat, err error) {
	n, each := len(ids)/c.Seqs, make([]int32, c.Seqs)
	for t := range n {
		for seq := range each {
			each[seq] = ids[seq*n+t]
		}
		if logits, err = d.Step(c, each); err != nil {
			return Mat{}, err
		}
	}
	return logits, nil
}

// Release frees the memory of results. They are no longer valid.
func (d *Decoder) Release() {
	d.forget()
	d.eng.arena.release()
	d.eng.floats.release()
	d.eng.releasePassing()
}

// Close frees the memory of the decoder and of everything else on its device, if that has memory of its own. The decoder cannot be used
// any more.
func (d *Decoder) Close() {
	d.forget()
	device.Close(d.device)
}

// Argmax writes the index of the largest logit of each row of a result to best.
func (d *Decoder) Argmax(best []int32, logits Mat) {
	d.device.Argmax(best, logits.Buffer, logits.Rows, logits.Cols)
}

// Host returns the elements of a result on the host, read-only.
func (d *Decoder) Host(m Mat) []float32 { return d.device.Host(m.Buffer) }

// Free frees the memory of a cache, which cannot be used any more.
func (d *Decoder) Free(c *Cache) {
	d.forget()
	c.store.free()
	c.cross.free()
	for _, s := range c.sinks {
		free(d.device, s.keys.Buffer, s.values.Buffer)
	}
	c.sinks = nil
}

// NewCache returns a cache for seqs sequences of capacity tokens each, which keeps what the decoder's formats say.
func (d *Decoder) NewCache(seqs, capacity int) *Cache {
	c, _ := d.NewCacheOf(d.kept(), seqs, capacity) // Build has checked it
	return c
}

// NewCacheOf is like NewCache for a cache that keeps something else. It returns an error if the model or the device cannot do that.
func (d *Decoder) NewCacheOf(kept Kept, seqs, capacity int) (*Cache, error) {
	if err := d.CheckKept(kept); err != nil {
		return nil, err
	}
	c := newCache(d.device, d.Arch, seqs, capacity, kept)
	if d.Arch.Rope.LongInvFreq() != nil {
		c.read.ids = make([]int32, seqs*capacity)
	}
	return c, nil
}
