package decode

import (
	"context"
	"errors"
	"fmt"

	"gqa/configs"
	"gqa/internal/kernels"
	"gqa/internal/model"
	"gqa/internal/ops"
)

// Decoder runs one model. It is not safe for concurrent use; the kernels below it use every thread.
type Decoder struct {
	Arch *configs.Arch
	Formats
	size  int // in weights
	model *model.Model[Mat]
	eng   *engine
	body  mark // of the arena, behind the last Hidden
	pos   []int32
	last  []int32
}

// Formats say how a decoder keeps what it reads every step. The zero value is f32.
type Formats struct {
	Weights kernels.Half // of matrices; norms and biases stay f32
	Cache   kernels.Half // of keys and values
}

// New builds a decoder over weights by the forward pass's names, in f32.
func New(arch *configs.Arch, all map[string][]float32) *Decoder {
	return NewIn(Formats{}, arch, all)
}

// NewIn is New with weights and cache in other formats.
func NewIn(f Formats, arch *configs.Arch, all map[string][]float32) *Decoder {
	d, _ := Build(context.Background(), f, arch, all) // which does not end
	return d
}

// Build is NewIn, which takes a while where a large model's weights are turned into another format: it ends where ctx does.
func Build(ctx context.Context, f Formats, arch *configs.Arch, all map[string][]float32) (*Decoder, error) {
	shapes, halved, table := map[string][]int{}, map[string]bool{}, map[string]bool{}
	params, _ := arch.Params() // all was read by the same list
	for _, p := range params {
		shapes[p.Name] = p.Shape
		table[p.Name] = p.Role == configs.Embed || p.Role == configs.Positions || p.Role == configs.TokenType
		halved[p.Name] = f.Weights != kernels.Full && len(p.Shape) == 2 && p.Role != configs.Distances && !p.IsNorm()
	}
	weight := func(name string) (Mat, bool) {
		data, ok := all[name]
		if !ok {
			return Mat{}, false
		}
		m := Mat{Rows: shapes[name][0], Cols: len(data) / shapes[name][0], Data: data}
		if ctx.Err() != nil {
			return m, true
		}
		if halved[name] {
			m.encode(f.Weights, table[name])
		} else {
			kernels.CollapsePages(m.Data)
		}
		return m, true
	}
	size := 0
	for _, w := range all {
		size += len(w)
	}
	d := &Decoder{
		Arch:    arch,
		Formats: f,
		size:    size,
		model:   model.New(arch, weight),
		eng:     &engine{ctx: context.Background(), tables: map[*ops.Rope]*kernels.RopeTable{}},
	}
	return d, ctx.Err()
}

// Until makes a pass end early once ctx is done: products and attention are skipped, and results mean nothing. Whoever runs
// the pass asks ctx.
func (d *Decoder) Until(ctx context.Context) { d.eng.ctx = ctx }

// preciseWeights is the most weights of a model that is run in float64: those of a T5-base. Beyond, a token takes too long.
const preciseWeights = 1 << 28

// Precise says whether sums are in float64 from now on, where float32 leaves few digits: in models of f32 weights whose scores
// are not scaled (T5). Such scores are large, and the softmax magnifies what is rounded before them. It takes up to
// twenty times as long. A decoder begins without.
func (d *Decoder) Precise(on bool) {
	large := d.Arch.ScoreScale >= 1 || d.Arch.ScoreScale == 0 && !d.Arch.ScaleScores
	d.eng.wide = on && large && d.Weights == kernels.Full && d.size <= preciseWeights
}

// encode turns a weight into a format of 16 bits, packed unless it is a table of which rows are read.
func (m *Mat) encode(f kernels.Half, table bool) {
	half := make([]uint16, len(m.Data))
	kernels.HugePages(half)
	kernels.EncodeHalf(f, half, m.Data)
	m.Data, m.Format = nil, f
	if !table {
		m.packed = kernels.PackHalf(f, m.Rows, m.Cols, half)
	}
	if m.packed == nil {
		m.Half = half
	}
}

// CheckIDs refuses token ids outside the vocabulary.
func (d *Decoder) CheckIDs(ids []int32) error {
	for i, id := range ids {
		if id < 0 || int(id) >= d.Arch.Vocab {
			return fmt.Errorf("token %d has id %d, outside the model's vocabulary of %d", i, id, d.Arch.Vocab)
		}
	}
	return nil
}

// CheckLength refuses more positions than the model can have; see configs.Arch.MaxPositions.
func (d *Decoder) CheckLength(tokens int) error {
	if limit := d.Arch.MaxPositions(); limit > 0 && tokens > limit {
		return fmt.Errorf("%d positions asked, but the model has %d", tokens, limit)
	}
	return nil
}

// Hidden runs a batch without a cache up to the head: [tokens, dim], valid until the decoder's next pass.
func (d *Decoder) Hidden(b ops.Batch) Mat {
	d.eng.arena.reset()
	d.eng.cache = nil
	h := d.model.Hidden(d.eng, b)
	d.body = d.eng.arena.mark()
	return h
}

// Head maps rows [lo, hi) of the last Hidden to logits [hi-lo, vocab], valid until the next Head or pass.
func (d *Decoder) Head(hidden Mat, lo, hi int) Mat {
	d.eng.arena.rewind(d.body)
	rows := Mat{Rows: hi - lo, Cols: hidden.Cols, Data: hidden.Data[lo*hidden.Cols : hi*hidden.Cols]}
	return d.model.Logits(d.eng, rows)
}

// Logits is Hidden and Head over every row: [tokens, vocab].
func (d *Decoder) Logits(b ops.Batch) Mat {
	h := d.Hidden(b)
	return d.Head(h, 0, h.Rows)
}

// Step reads the next tokens of every sequence (ids [c.Seqs*n], sequence by sequence), appends their keys and values to
// the cache, and returns the logits after each sequence's last token: [c.Seqs, vocab], valid until the next pass. A prompt
// is prefilled by one Step; after that n is 1.
func (d *Decoder) Step(c *Cache, ids []int32) (Mat, error) {
	n := len(ids) / c.Seqs
	if n < 1 || len(ids) != n*c.Seqs {
		return Mat{}, fmt.Errorf("%d tokens for %d sequences", len(ids), c.Seqs)
	}
	if d.Arch.EncoderLayers > 0 && c.SourceLen == 0 {
		return Mat{}, errors.New("the model's encoder has read nothing for this cache")
	}
	if c.Len+n > c.Capacity {
		return Mat{}, fmt.Errorf("the cache has room for %d tokens, %d are asked", c.Capacity, c.Len+n)
	}
	ids = d.reread(c, ids)
	n = len(ids) / c.Seqs
	d.pos, d.last = d.pos[:0], d.last[:0]
	for i := range ids {
		d.pos = append(d.pos, int32(c.Len+i%n))
		if i%n == n-1 {
			d.last = append(d.last, int32(i))
		}
	}
	d.eng.arena.reset()
	d.eng.cache = c
	h := d.model.Hidden(d.eng, ops.Batch{IDs: ids, Pos: d.pos, Seqs: c.Seqs, Len: n})
	c.Len += n
	if n > 1 {
		h = d.eng.Embed(h, d.last, 0)
	}
	return d.model.Logits(d.eng, h), nil
}

// NewCache makes room for seqs sequences of capacity tokens each, in the decoder's format.
func (d *Decoder) NewCache(seqs, capacity int) *Cache {
	c := newCache(d.Arch, seqs, capacity, d.Cache)
	if d.Arch.Rope.LongInvFreq() != nil {
		c.read.ids = make([]int32, seqs*capacity)
	}
	return c
}
