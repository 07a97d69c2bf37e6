// Package infer is the inference engine. It runs a model forward without a graph, caches only KV heads, and allocates
// from an arena, so that decoding a token causes no allocations.
package infer

import (
	"cmp"
	"slices"

	"gqa/internal/activation"
	"gqa/internal/device"
	"gqa/internal/ops"
)

// Mat is a row-major matrix [Rows, Cols]. Results have the device's format of activations; weights may have any format or
// form.
type Mat struct {
	device.Buffer
	Rows, Cols int
	end        mark // position in the arena after it; zero if it is not in the arena
}

// overlaps reports whether two matrices of the arena, of one size, have numbers in common.
func (m Mat) overlaps(n Mat) bool {
	apart := m.end.used - n.end.used
	return m.end.block == n.end.block && max(apart, -apart) < m.Len()
}

// all returns the matrix as rows without gaps.
func (m Mat) all() device.Rows { return device.Rows{Buffer: m.Buffer, LD: m.Cols} }

// engine implements ops.Ops[Mat]. Results are valid until the next reset, except as described for Add.
type engine struct {
	device device.Device
	arena  arena // of results
	floats arena // of f32 numbers
	ropes  map[*ops.Rope]device.Rope
	cache  *Cache                    // nil: attention is limited to the batch
	kept   Kept                      // what is kept of the tokens that others attend to
	turned *ops.Rope                 // that the last Rotate has used; nil if positions are not rotary
	shifts map[*ops.Rope]device.Rope // rotations by a number of positions
	freed  int                       // how many of these tables were replaced by larger ones
	shift  []int32                   // positions by which rows are rotated
	passed passed                    // keys and values of the batch, as a cache would keep them
	bucket []int32                   // for RelativeBias
	replay *replay                   // whose step is being requested; nil if none

	// What is left to the next operation, which may compute it too.
	sum, addend Mat // if addend has rows: addend is to be added to sum
	turn        turn
	fused       device.Fused // nil if the device is not

	one      [1]ops.Linear[Mat] // for Linear
	pair     [2]ops.Linear[Mat] // for LinearGate
	products []device.Product   // for Linears
	results  []Mat
}

var (
	_ ops.Ops[Mat]           = (*engine)(nil)
	_ ops.GroupedLinear[Mat] = (*engine)(nil)
	_ ops.GatedLinear[Mat]   = (*engine)(nil)
	_ ops.PairRotator[Mat]   = (*engine)(nil)
)

// turn is a rotation of queries and keys. It has none if pos is nil.
type turn struct {
	q, k                    Mat
	rope                    device.Rope
	pos                     []int32
	heads, kvHeads, headDim int
}

func newEngine(d device.Device) *engine {
	fused, _ := d.(device.Fused)
	return &engine{
		device: d, fused: fused, ropes: map[*ops.Rope]device.Rope{}, shifts: map[*ops.Rope]device.Rope{},
		arena: arena{device: d, format: d.Activations()}, floats: arena{device: d},
	}
}

// reset releases all results.
func (e *engine) reset() {
	e.addend, e.turn = Mat{}, turn{}
	e.arena.reset()
	e.floats.reset()
}

// settle computes what is left to the next operation.
func (e *engine) settle() {
	if t := e.turn; t.pos != nil {
		e.turn = turn{}
		e.device.Rotate(t.rope, t.q.all(), t.q.all(), t.pos, t.heads, t.headDim, false)
		e.device.Rotate(t.rope, t.k.all(), t.k.all(), t.pos, t.kvHeads, t.headDim, false)
	}
	if e.addend.Rows > 0 {
		e.device.Add(e.sum.Buffer, e.sum.Buffer, e.addend.Buffer)
		e.arena.rewind(e.sum.end)
		e.addend = Mat{}
	}
}

func (e *engine) mat(rows, cols int) Mat {
	data := e.arena.take(rows * cols)
	return Mat{Buffer: data, Rows: rows, Cols: cols, end: e.arena.mark()}
}

func (e *engine) Embed(table Mat, ids []int32, first int) Mat {
	e.settle()
	y := e.mat(len(ids), table.Cols)
	e.device.Gather(y.Buffer, table.From(first*table.Cols), ids, table.Cols)
	return y
}

func (e *engine) Linear(x Mat, w ops.Linear[Mat]) Mat {
	e.one[0] = w
	return e.Linears(x, e.one[:])[0]
}

// Linears implements ops.GroupedLinear.
func (e *engine) Linears(x Mat, ws []ops.Linear[Mat]) []Mat {
	e.settle()
	e.results = e.results[:0]
	for _, w := range ws {
		e.results = append(e.results, e.mat(x.Rows, w.W.Rows))
	}
	e.multiply(x, ws)
	for i, w := range ws {
		if w.HasBias {
			e.device.AddRows(e.results[i].Buffer, w.Bias.Buffer, x.Rows, w.W.Rows)
		}
	}
	return e.results
}

// multiply computes the results of Linears without biases.
func (e *engine) multiply(x Mat, ws []ops.Linear[Mat]) {
	e.products = e.products[:0]
	for i, w := range ws {
		e.products = append(e.products, device.Product{N: w.W.Rows, Y: e.results[i].Buffer, W: w.W.Buffer})
	}
	e.device.Multiply(x.Rows, x.Cols, x.Buffer, e.products)
}

// Norm also computes x if that is a sum that Add has left to it.
func (e *engine) Norm(x Mat, n ops.Norm[Mat]) Mat {
	dim := cmp.Or(n.Dim, x.Cols)
	fused := e.addend.Rows > 0 && x.end == e.sum.end && dim == x.Cols
	if fused {
		e.arena.rewind(e.sum.end)
	} else {
		e.settle()
	}
	y := e.mat(x.Rows, x.Cols)
	for i := 0; fused && i < 2 && y.overlaps(e.addend); i++ { // the third is behind the addend, unless the device has failed
		y = e.mat(x.Rows, x.Cols)
	}
	rows, w := x.Len()/dim, n.W.Buffer
	if n.Offset != 0 && n.HasW {
		w = e.floats.take(w.Len())
		e.device.Shift(w, n.W.Buffer, n.Offset)
	}
	var none device.Buffer
	switch {
	case n.Layer && fused:
		e.device.AddLayerNorm(y.Buffer, none, none, x.Buffer, x.Buffer, e.addend.Buffer, w, n.Bias.Buffer, rows, dim, n.Eps)
	case n.Layer:
		e.device.LayerNorm(y.Buffer, none, none, x.Buffer, w, n.Bias.Buffer, rows, dim, n.Eps)
	case fused:
		e.device.AddRMSNorm(y.Buffer, none, x.Buffer, x.Buffer, e.addend.Buffer, w, rows, dim, n.Eps)
	default:
		e.device.RMSNorm(y.Buffer, none, x.Buffer, w, rows, dim, n.Eps)
	}
	if fused {
		e.addend = Mat{}
	}
	return y
}

func (e *engine) Rotate(x Mat, r *ops.Rope, pos []int32, heads, headDim int) Mat {
	e.settle()
	all := x.all()
	e.turned = r.For(pos)
	e.device.Rotate(e.rope(e.turned, pos), all, all, pos, heads, headDim, false)
	return x
}

// RotatePair leaves the rotation to the next operation, which may be attention that stores the keys.
func (e *engine) RotatePair(q, k Mat, r *ops.Rope, pos []int32, heads, kvHeads, headDim int) (Mat, Mat) {
	e.settle()
	e.turned = r.For(pos)
	e.turn = turn{q, k, e.rope(e.turned, pos), pos, heads, kvHeads, headDim}
	return q, k
}

// rope returns rotations up to the largest position.
func (e *engine) rope(r *ops.Rope, pos []int32) device.Rope {
	need := r.Positions
	for _, p := range pos {
		need = max(need, int(p)+1)
	}
	if e.replay != nil {
		need = max(need, e.replay.positions)
	}
	new := need
	if t := e.ropes[r]; t != nil {
		new = max(need, 2*t.Positions()) // decoding beyond the trained context rarely grows it
	}
	return e.table(e.ropes, r, need, new, r.Scale)
}

// table returns rotations from tables for `need` positions. If there are none, it makes them, for `new` positions.
func (e *engine) table(tables map[*ops.Rope]device.Rope, r *ops.Rope, need, new int, scale float64) device.Rope {
	t := tables[r]
	if t != nil && t.Positions() >= need {
		return t
	}
	if t != nil {
		e.device.FreeRope(t)
		e.freed++
	}
	t = e.device.NewRope(r.InvFreq, new, scale, r.Interleaved)
	tables[r] = t
	return t
}

func (e *engine) Attend(q, k, v Mat, a ops.Attention[Mat], b ops.Batch) Mat {
	stored := e.rotateStore(q, k, v, a, b)
	e.settle()
	out, s := e.mat(q.Rows, q.Cols), scores(a, b)
	keys, values := e.keysAndValues(&s, k, v, a, b, stored)
	if s.Sinks > 0 {
		s.SinkQueries = e.sinkQueries(q, a, b)
	}
	e.device.Attend(s, rows(out, b.Len, a.HeadDim), device.Buffer{}, rows(q, b.Len, a.HeadDim), keys, values)
	return out
}

// scores returns the device's description of a site, without the number of keys.
func scores(a ops.Attention[Mat], b ops.Batch) device.Scores {
	return device.Scores{
		Batch: b.Seqs, Queries: b.Len, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim, ValueDim: a.ValueDim,
		Scale: a.Scale, Causal: a.Causal, Window: a.Window, Bias: a.Bias.Buffer, Slopes: a.Slopes, CoarseSlopes: a.CoarseSlopes,
	}
}

// rotateStore computes the rotation that is left, and stores the keys and values, if the device can do it at once and no more is to be
// done.
func (e *engine) rotateStore(q, k, v Mat, a ops.Attention[Mat], b ops.Batch) bool {
	t := e.turn
	if e.fused == nil || e.cache == nil || e.kept.Window > 0 && (b.Len > 1 || e.cache.Len < e.kept.Sinks) || a.Cross || t.pos == nil || t.q.end != q.end || t.k.end != k.end {
		return false
	}
	e.turn = turn{}
	e.fused.RotateStore(t.rope, q.all(), k.all(), v.all(), t.pos, t.heads, t.headDim, e.cache.keys[a.Site], e.cache.values[a.Site], e.cache.slot(e.cache.Len), b.Len)
	return true
}

// keysAndValues returns the keys and values that a site's queries attend to: those of the batch or its source and, with
// a cache, the earlier ones. The cache has the batch's if they are stored.
func (e *engine) keysAndValues(s *device.Scores, k, v Mat, a ops.Attention[Mat], b ops.Batch, stored bool) (keys, values device.Heads) {
	switch {
	case a.Cross && b.Source == nil:
		s.Keys, s.KeyLens = e.cache.SourceLen, e.cache.sourceLens
		return e.cache.cross.keys[a.Site], e.cache.cross.values[a.Site]
	case a.Cross:
		s.Keys, s.KeyLens = b.Source.Len, b.Source.Lens
		return e.throughCache(k, v, a, b.Seqs, b.Source.Len)
	case e.cache != nil && e.kept.Window > 0 && b.Len > 1: // the first tokens
		e.cache.storeKept(a.Site, b, k, v)
	case e.cache != nil:
		if s.Keys = e.kept.Tokens(e.cache.Len + b.Len); e.replay != nil {
			s.Keys, s.KeyLens = e.replay.keys, e.replay.Lens
		}
		if !stored {
			e.cache.extend(a.Site, b, k, v)
		}
		e.shiftSinks(a, b.Len)
		return e.cache.keys[a.Site], e.cache.values[a.Site]
	}
	if s.Keys = b.Len; !a.Causal {
		s.KeyLens = b.Lens
		return rows(k, s.Keys, a.HeadDim), rows(v, s.Keys, a.HeadDim) // these are in no cache
	}
	s.Firsts = b.Firsts
	if e.kept.Window > 0 {
		s.Window, s.Sinks = e.kept.Window, e.kept.Sinks
	}
	return e.throughCache(k, v, a, b.Seqs, b.Len)
}

// RelativeBias returns the bias for every query of the batch and every key, including those in the cache.
func (e *engine) RelativeBias(table Mat, r ops.Relative, b ops.Batch) Mat {
	keys := b.Len
	switch {
	case e.replay != nil:
		keys = e.replay.keys
	case e.cache != nil:
		keys += e.cache.Len
	}
	e.bucket = slices.Grow(e.bucket[:0], b.Len+keys-1)[:b.Len+keys-1]
	r.Fill(e.bucket, keys-1)
	y := Mat{Buffer: e.floats.take(table.Cols * b.Len * keys), Rows: table.Cols * b.Len, Cols: keys}
	if e.replay != nil {
		e.replay.device.NextBias(&e.replay.Replay, y.Buffer, table.Buffer, e.bucket, table.Cols, keys)
		return y
	}
	e.device.RelativeBias(y.Buffer, table.Buffer, e.bucket, table.Cols, b.Len, keys)
	return y
}

// rows returns a view by head of a matrix of tokens [seqs*length, heads*headDim].
func rows(m Mat, length, headDim int) device.Heads {
	return device.Heads{Buffer: m.Buffer, Seq: length * m.Cols, Head: headDim, Row: m.Cols}
}

func (e *engine) Activate(x Mat, act activation.Func) Mat {
	e.settle()
	e.device.Activate(act, x.Buffer, x.Buffer)
	return x
}

func (e *engine) Gate(gate, up Mat, act activation.Func) Mat {
	e.settle()
	e.device.Gate(act, gate.Buffer, gate.all(), up.all(), gate.Rows, gate.Cols)
	return gate
}

// LinearGate implements ops.GatedLinear.
func (e *engine) LinearGate(x Mat, gate, up ops.Linear[Mat], act activation.Func) Mat {
	e.settle()
	if e.fused != nil && !gate.HasBias && !up.HasBias {
		from, y := e.arena.mark(), e.mat(x.Rows, gate.W.Rows)
		if e.fused.MultiplyGate(act, y.Buffer, x.Buffer, gate.W.Buffer, up.W.Buffer, x.Rows, y.Cols, x.Cols) {
			return y
		}
		e.arena.rewind(from)
	}
	e.pair = [...]ops.Linear[Mat]{gate, up}
	in := e.Linears(x, e.pair[:])
	return e.Gate(in[0], in[1], act)
}

func (e *engine) Scale(x Mat, s float32) Mat {
	e.settle()
	e.device.Scale(x.Buffer, s)
	return x
}

func (e *engine) Clip(x Mat, limit float32) Mat {
	e.settle()
	e.device.Clip(x.Buffer, x.Buffer, limit)
	return x
}

// Add overwrites x, and releases everything computed after x, in the next operation, so that a norm can compute the sum too. The output
// of a block is its last use of that memory, so a pass needs the memory of one block, not of all layers.
func (e *engine) Add(x, y Mat) Mat {
	e.settle()
	e.sum, e.addend = x, y
	return x
}
