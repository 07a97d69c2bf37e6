// Package decode is the engine that serves: it runs a model forward without a graph, keeps a KV cache of the KV heads
// alone, and takes all its memory from an arena, so that a decoded token allocates nothing.
package decode

import (
	"cmp"
	"context"
	"slices"

	"gqa/internal/kernels"
	"gqa/internal/ops"
)

// Mat is a row-major matrix [Rows, Cols]. Results are float32, in Data; a weight may be in 16 bits, in Half or packed for
// products.
type Mat struct {
	Rows, Cols int
	Data       []float32
	Half       []uint16
	Format     kernels.Half
	packed     *kernels.Packed
	end        mark // where the arena goes on after it; zero for what is not the arena's
}

// engine implements ops.Ops[Mat]. Results live until the next reset, with one exception: see Add.
type engine struct {
	ctx    context.Context // see Decoder.Until
	arena  arena
	tables map[*ops.Rope]*kernels.RopeTable
	cache  *Cache  // nil: attention sees the batch alone
	wide   bool    // sums are in float64; see Decoder.Precise
	bucket []int32 // of RelativeBias

	one      [1]ops.Linear[Mat] // of Linear
	products []kernels.Product  // of Linears
	results  []Mat
}

var (
	_ ops.Ops[Mat]   = (*engine)(nil)
	_ ops.Joint[Mat] = (*engine)(nil)
)

// stopped says that the pass is to end: what is long is skipped.
func (e *engine) stopped() bool { return e.ctx.Err() != nil }

func (e *engine) mat(rows, cols int) Mat {
	data := e.arena.take(rows * cols)
	return Mat{Rows: rows, Cols: cols, Data: data, end: e.arena.mark()}
}

func (e *engine) Embed(table Mat, ids []int32, first int) Mat {
	y := e.mat(len(ids), table.Cols)
	if table.Format != kernels.Full {
		kernels.GatherHalf(table.Format, y.Data, table.Half[first*table.Cols:], ids, table.Cols)
	} else {
		kernels.Gather(y.Data, table.Data[first*table.Cols:], ids, table.Cols)
	}
	return y
}

func (e *engine) Linear(x Mat, w ops.Linear[Mat]) Mat {
	e.one[0] = w
	return e.Linears(x, e.one[:])[0]
}

// Linears implements ops.Joint.
func (e *engine) Linears(x Mat, ws []ops.Linear[Mat]) []Mat {
	e.results = e.results[:0]
	for _, w := range ws {
		e.results = append(e.results, e.mat(x.Rows, w.W.Rows))
	}
	e.multiply(x, ws)
	for i, w := range ws {
		if w.HasBias && !e.stopped() {
			kernels.AddRows(e.results[i].Data, w.Bias.Data, x.Rows, w.W.Rows)
		}
	}
	return e.results
}

// multiply fills in the results of Linears, but for biases.
func (e *engine) multiply(x Mat, ws []ops.Linear[Mat]) {
	for first := 0; first < x.Rows && !e.stopped(); first += rowsAtOnce {
		e.multiplyRows(x, ws, first, min(rowsAtOnce, x.Rows-first))
	}
}

// rowsAtOnce are multiplied between two looks at the context.
const rowsAtOnce = 1024

func (e *engine) multiplyRows(x Mat, ws []ops.Linear[Mat], first, rows int) {
	in := x.Data[first*x.Cols:]
	e.products = e.products[:0]
	for i, w := range ws {
		y := e.results[i]
		out := y.Data[first*y.Cols : (first+rows)*y.Cols]
		if e.wide {
			kernels.GemmNTWide(rows, y.Cols, x.Cols, in, w.W.Data, out)
			continue
		}
		e.products = append(e.products, kernels.Product{
			N: y.Cols, Y: out, Full: w.W.Data, Half: w.W.Half, Format: w.W.Format, Packed: w.W.packed,
		})
	}
	kernels.GemmNTs(rows, x.Cols, in, x.Cols, e.products)
}

func (e *engine) Norm(x Mat, n ops.Norm[Mat]) Mat {
	y := e.mat(x.Rows, x.Cols)
	if e.stopped() {
		return y
	}
	dim := cmp.Or(n.Dim, x.Cols)
	rows, w := len(x.Data)/dim, n.W.Data
	if n.Offset != 0 && n.HasW {
		w = e.arena.take(len(w))
		kernels.Shift(w, n.W.Data, n.Offset)
	}
	switch {
	case e.wide && n.Layer:
		kernels.LayerNormRef(y.Data, nil, nil, x.Data, w, n.Bias.Data, rows, dim, n.Eps)
	case e.wide:
		kernels.RMSNormRef(y.Data, nil, x.Data, w, rows, dim, n.Eps)
	case n.Layer:
		kernels.LayerNorm(y.Data, nil, nil, x.Data, w, n.Bias.Data, rows, dim, n.Eps)
	default:
		kernels.RMSNorm(y.Data, nil, x.Data, w, rows, dim, n.Eps)
	}
	return y
}

func (e *engine) Rotate(x Mat, r *ops.Rope, pos []int32, heads, headDim int) Mat {
	if e.stopped() {
		return x
	}
	table := e.table(r.For(pos), pos)
	table.Rotate(x.Data, x.Data, pos, heads, headDim, false)
	return x
}

// table returns cosines and sines that reach the largest position.
func (e *engine) table(r *ops.Rope, pos []int32) *kernels.RopeTable {
	need := r.Positions
	for _, p := range pos {
		need = max(need, int(p)+1)
	}
	t := e.tables[r]
	if t == nil || t.Positions() < need {
		if t != nil {
			need = max(need, 2*t.Positions()) // decoding past the trained context grows it rarely
		}
		t = kernels.NewRopeTable(r.InvFreq, need, r.Scale, r.Interleaved)
		e.tables[r] = t
	}
	return t
}

func (e *engine) Attend(q, k, v Mat, a ops.Attention[Mat], b ops.Batch) Mat {
	out := e.mat(q.Rows, q.Cols)
	spec := kernels.Attention{
		Batch: b.Seqs, Queries: b.Len, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim,
		Scale: a.Scale, Causal: a.Causal, Window: a.Window, Bias: a.Bias.Data, Slopes: a.Slopes, CoarseSlopes: a.CoarseSlopes,
	}
	if e.stopped() {
		return out
	}
	keys, values := e.keysAndValues(&spec, k, v, a, b)
	if e.wide {
		kernels.AttendWide(spec, rows(out, b.Len, a.HeadDim), rows(q, b.Len, a.HeadDim), keys, values)
	} else {
		kernels.Attend(spec, rows(out, b.Len, a.HeadDim), nil, rows(q, b.Len, a.HeadDim), keys, values)
	}
	return out
}

// keysAndValues are what a site's queries attend to: the batch's own or its source's, and with a cache those before them.
func (e *engine) keysAndValues(spec *kernels.Attention, k, v Mat, a ops.Attention[Mat], b ops.Batch) (keys, values kernels.View) {
	switch {
	case a.Cross && b.Source == nil:
		spec.Keys, spec.KeyLens = e.cache.SourceLen, e.cache.sourceLens
		return e.cache.cross.keys[a.Site], e.cache.cross.values[a.Site]
	case a.Cross:
		spec.Keys, spec.KeyLens = b.Source.Len, b.Source.Lens
	case e.cache != nil:
		spec.Keys = e.cache.Len + b.Len
		return e.cache.extend(a.Site, b, k, v)
	default:
		spec.Keys = b.Len
		if !a.Causal {
			spec.KeyLens = b.Lens
		}
	}
	return rows(k, spec.Keys, a.HeadDim), rows(v, spec.Keys, a.HeadDim)
}

// RelativeBias is the bias of every query of the batch for every key, those in the cache included.
func (e *engine) RelativeBias(table Mat, r ops.Relative, b ops.Batch) Mat {
	keys := b.Len
	if e.cache != nil {
		keys += e.cache.Len
	}
	e.bucket = slices.Grow(e.bucket[:0], b.Len+keys-1)[:b.Len+keys-1]
	kernels.RelativeBuckets(e.bucket, keys-1, r.Buckets, r.MaxDistance, r.BothWays)
	y := e.mat(table.Cols*b.Len, keys)
	kernels.RelativeBias(y.Data, table.Data, e.bucket, table.Cols, b.Len, keys)
	return y
}

// rows views a matrix of tokens [seqs*length, heads*headDim] by head.
func rows(m Mat, length, headDim int) kernels.View {
	return kernels.View{Data: m.Data, Seq: length * m.Cols, Head: headDim, Row: m.Cols}
}

func (e *engine) Activate(x Mat, act ops.Activation) Mat {
	if e.stopped() {
		return x
	}
	kernels.Activate(kernels.ActivationOf(string(act)), x.Data, x.Data)
	return x
}

func (e *engine) Gate(gate, up Mat, act ops.Activation) Mat {
	if e.stopped() {
		return gate
	}
	kernels.Gate(kernels.ActivationOf(string(act)), gate.Data, gate.Data, up.Data)
	return gate
}

func (e *engine) Scale(x Mat, s float32) Mat {
	kernels.Scale(x.Data, s)
	return x
}

func (e *engine) Clip(x Mat, limit float32) Mat {
	kernels.Clip(x.Data, x.Data, limit)
	return x
}

// Add writes over x and gives back the memory of all that was computed after x. What a block adds to the stream is the last
// that is seen of the block, so a pass takes the memory of one block, not of all layers.
func (e *engine) Add(x, y Mat) Mat {
	kernels.Add(x.Data, x.Data, y.Data)
	e.arena.rewind(x.end)
	return x
}
