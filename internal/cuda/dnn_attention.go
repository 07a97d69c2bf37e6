//go:build cuda && linux

package cuda

import (
	"errors"
	"fmt"
	"math"
)

// HeadView locates rows of heads in bf16: row t of head h of sequence s begins at number s·Seq + h·Head + t·Row.
type HeadView struct {
	At             uintptr
	Seq, Head, Row int64
}

// Bias is the type of the numbers that are added to scores.
type Bias uint8

// The types.
const (
	NoBias Bias = iota
	BiasBF16
	BiasF32
)

// Attention describes attention, or its gradient, as cuDNN computes it: bf16 input, f32 sums. Query head h reads KV head
// h / (Heads/KVHeads).
type Attention struct {
	Batch, Queries, Keys, Heads, KVHeads, HeadDim int64

	Scale         float32
	Causal        bool  // query i sees the keys j <= i + (keys of the sequence) - Queries
	Window        int64 // if not 0, a query sees only the last Window of these keys; needs Causal
	Padded        bool  // each sequence has its own number of keys
	ALiBi         bool  // adds slope·(j - i); needs Causal
	Bias          Bias  // the type of the bias [Heads, Queries, Keys] and of its gradient
	Backward      bool
	BiasGradient  bool // also compute the bias's gradient, summed over sequences
	Deterministic bool // give the same bits each time
}

// NeedsSum reports whether Operands.Sum is needed. The other form of the gradient keeps the gradients of all scores in
// its workspace, and sums dq from them in a fixed order.
func (a Attention) NeedsSum() bool { return a.Backward && !a.Deterministic && !a.BiasGradient }

// Operands locates what attention reads and writes. Addresses are multiples of 16 bytes.
type Operands struct {
	Q, K, V, Out HeadView
	LSE          uintptr // [Batch, Heads, Queries] in f32
	KeyLens      uintptr // [Batch] in int32, if Padded: at least 1, and at least Queries if Causal
	Slopes       uintptr // [Heads] in f32, if ALiBi
	Bias         uintptr // [Heads, Queries, Keys]
	Workspace    uintptr // of the size that PrepareAttention returns

	// Of the gradient.
	DOut, DQ, DK, DV HeadView
	Delta            uintptr // workspace for [Batch, Heads, Queries] numbers in f32
	Sum              uintptr // workspace for [Batch, Heads, Queries, HeadDim] numbers in f32, if NeedsSum
	DBias            uintptr // [Heads, Queries, Keys], cleared
}

// slot is an operand of a graph: those of Operands, and the numbers of queries of all sequences.
type slot int

const (
	slotQ slot = iota
	slotK
	slotV
	slotOut
	slotLSE
	slotKeyLens
	slotQueryLens
	slotSlopes
	slotBias
	slotDOut
	slotDQ
	slotDK
	slotDV
	slotDelta
	slotSum
	slotDBias
	slots
)

func (o Operands) views() [8]HeadView {
	return [8]HeadView{o.Q, o.K, o.V, o.Out, o.DOut, o.DQ, o.DK, o.DV}
}

func (o Operands) addresses() [slots]uintptr {
	return [slots]uintptr{
		slotQ: o.Q.At, slotK: o.K.At, slotV: o.V.At, slotOut: o.Out.At, slotLSE: o.LSE, slotKeyLens: o.KeyLens, slotSlopes: o.Slopes, slotBias: o.Bias,
		slotDOut: o.DOut.At, slotDQ: o.DQ.At, slotDK: o.DK.At, slotDV: o.DV.At, slotDelta: o.Delta, slotSum: o.Sum, slotDBias: o.DBias,
	}
}

// unaligned returns an error if an operand's rows do not begin at multiples of 16 bytes, as the graphs promise.
func (o Operands) unaligned() error {
	for _, at := range o.addresses() {
		if at%16 != 0 {
			return errors.New("an operand of attention does not begin at a multiple of 16 bytes")
		}
	}
	for _, v := range o.views() {
		if v.Seq%8 != 0 || v.Head%8 != 0 || v.Row%8 != 0 {
			return errors.New("rows of attention do not begin at multiples of 16 bytes")
		}
	}
	return nil
}

// bottomRight reports whether the last query sees the last key of each sequence. Otherwise query i sees key i, which is
// the same if there are as many keys as queries.
func (a Attention) bottomRight() bool { return a.Causal && (a.Padded || a.Queries != a.Keys) }

// refused returns an error if a version of cuDNN must not compute the attention on a GPU of a compute capability,
// although it might accept the graph. These are the exclusions of NVIDIA's cudnn-frontend.
func (a Attention) refused(version uint64, arch int) error {
	hopper := arch/10 == 9
	for _, e := range append(a.exclusions(), []exclusion{
		{version == 91000 || version == 91001, "this version has known errors"},
		{a.Window != 0 && a.Bias != NoBias && version < 91002, "a window with a bias needs 9.10.2"},
		{a.Window != 0 && a.bottomRight() && a.Queries == a.Keys && version <= 90900 && hopper, "a window with padding needs 9.10"},
		{a.Queries == 1 && a.Causal && version <= 90900, "a single query needs 9.10"},
		// On these the frontend names an engine and its settings, which have not been tried here.
		{a.Backward && a.Deterministic && arch >= 100, "the gradient is not known to be deterministic on this GPU"},
	}...) {
		if e.is {
			return fmt.Errorf("not computed by cuDNN %s: %s", threeParts(version), e.why)
		}
	}
	return nil
}

// exclusion is a reason not to let cuDNN compute an attention.
type exclusion struct {
	is  bool
	why string
}

// exclusions are those of every version.
func (a Attention) exclusions() []exclusion {
	bias, window, ends := a.Bias != NoBias, a.Window != 0, a.bottomRight()
	return []exclusion{
		{a.HeadDim%8 != 0 || a.HeadDim > 256, "the head dim must be a multiple of 8 up to 256"},
		{window && !a.Causal, "a window must be causal"},
		{a.ALiBi && (!a.Causal || ends), "ALiBi must be causal, with equal numbers of queries and keys"},
		{ends && bias, "a causal mask with a bias needs equal numbers of queries and keys"},
		{(ends || window) && !a.Padded && a.Queries > a.Keys, "there are more queries than keys"},
		{a.Backward && a.Queries == 1 && a.Keys == 1, "a single key has no gradient"},
	}
}

// attentionGraph is the graph of an attention for a version of cuDNN.
type attentionGraph struct {
	graph
	a                  Attention
	o                  Operands
	version            uint64
	keyLens, queryLens *tensor // nil if sequences are not padded
	scale              *tensor
}

func newAttentionGraph(a Attention, o Operands, version uint64) *attentionGraph {
	g := &attentionGraph{a: a, o: o, version: version}
	g.scale = g.number(dnnFloat, math.Float32bits(a.Scale))
	// Up to 9.15 the gradient is wrong if the last tile of keys is not full, unless there is a padding mask.
	if a.Padded || a.Backward && version <= 91500 && a.Keys%128 != 0 {
		dims, strides := [4]int64{a.Batch, 1, 1, 1}, [4]int64{1, 1, 1, 1}
		g.keyLens, g.queryLens = g.operand(slotKeyLens, dnnInt32, dims, strides), g.operand(slotQueryLens, dnnInt32, dims, strides)
	}
	if a.Backward {
		g.backward()
	} else {
		g.forward()
	}
	return g
}

// square is the shape of the scores.
func (g *attentionGraph) square() [4]int64 {
	return [4]int64{g.a.Batch, g.a.Heads, g.a.Queries, g.a.Keys}
}

// scores adds a virtual tensor of the scores' shape.
func (g *attentionGraph) scores(data int32) *tensor { return g.between(data, g.square()) }

// rows adds a tensor of heads' rows [batch, heads, rows, dim].
func (g *attentionGraph) rows(s slot, v HeadView, heads, rows int64) *tensor {
	return g.operand(s, dnnBF16, [4]int64{g.a.Batch, heads, rows, g.a.HeadDim}, [4]int64{v.Seq, v.Head, v.Row, 1})
}

// columns adds the transpose of the rows of keys or values.
func (g *attentionGraph) columns(s slot, v HeadView) *tensor {
	return g.operand(s, dnnBF16, [4]int64{g.a.Batch, g.a.KVHeads, g.a.HeadDim, g.a.Keys}, [4]int64{v.Seq, v.Head, 1, v.Row})
}

// perRow is the shape of one number per row of each head of queries.
func (g *attentionGraph) perRow() (dims, strides [4]int64) {
	a := g.a
	return [4]int64{a.Batch, a.Heads, a.Queries, 1}, [4]int64{a.Heads * a.Queries, a.Queries, 1, 1}
}

func (g *attentionGraph) statistic() *tensor {
	dims, strides := g.perRow()
	return g.tensor(dnnFloat, dims, strides, virtual)
}

func (g *attentionGraph) storedStatistic(s slot) *tensor {
	dims, strides := g.perRow()
	return g.operand(s, dnnFloat, dims, strides)
}

// biasOperand adds the bias or its gradient.
func (g *attentionGraph) biasOperand(s slot) *tensor {
	data, dims := int32(dnnBF16), [4]int64{1, g.a.Heads, g.a.Queries, g.a.Keys}
	if g.a.Bias == BiasF32 {
		data = dnnFloat
	}
	return g.operand(s, data, dims, rowMajor(dims))
}

// index adds the indexes of x's elements along an axis: 2 is that of queries, 3 that of keys.
func (g *attentionGraph) index(x *tensor, axis int64, compute int32) *tensor {
	return g.point(pointwise{pointIndex, compute, axis}, g.scores(dnnInt32), x)
}

// ints adds an operation on integers.
func (g *attentionGraph) ints(mode int32, in ...*tensor) *tensor {
	return g.point(pointwise{mode: mode, compute: dnnInt32}, g.scores(dnnInt32), in...)
}

// holds adds a comparison, or a conjunction.
func (g *attentionGraph) holds(mode int32, in ...*tensor) *tensor {
	return g.point(pointwise{mode: mode, compute: dnnBool}, g.scores(dnnBool), in...)
}

// where adds x with -infinity wherever seen is false.
func (g *attentionGraph) where(seen, x *tensor) *tensor {
	least := float32(math.Inf(-1))
	if g.version < 91000 { // these compute NaN from infinities
		least = -math.MaxFloat32
	}
	return g.float(pointSelect, g.scores(dnnFloat), x, g.number(dnnFloat, math.Float32bits(least)), seen)
}

// scored adds the scores of queries and keys, up to the causal mask and the window.
func (g *attentionGraph) scored(q, k *tensor) *tensor {
	a := g.a
	x := g.multiply(q, k, g.scores(dnnFloat), lengths{m: g.queryLens, n: g.keyLens})
	x = g.float(pointMul, g.scores(dnnFloat), x, g.scale)
	if a.Bias != NoBias {
		x = g.float(pointAdd, g.scores(dnnFloat), x, g.biasOperand(slotBias))
	}
	if a.ALiBi {
		row, col := g.index(x, 2, dnnInt32), g.index(x, 3, dnnInt32)
		slopes := g.operand(slotSlopes, dnnFloat, [4]int64{1, a.Heads, 1, 1}, [4]int64{a.Heads, 1, 1, 1})
		added := g.float(pointMul, g.scores(dnnFloat), g.ints(pointSub, col, row), slopes)
		x = g.float(pointAdd, g.scores(dnnFloat), x, added)
	}
	return g.padded(x)
}

// padded adds x with -infinity outside of the sequences, if these are padded.
func (g *attentionGraph) padded(x *tensor) *tensor {
	if g.keyLens == nil {
		return x
	}
	row, col := g.index(x, 2, dnnInt32), g.index(x, 3, dnnInt32)
	inside := g.holds(pointAnd, g.holds(pointLT, row, g.queryLens), g.holds(pointLT, col, g.keyLens))
	return g.where(inside, x)
}

// masked adds x with -infinity for the keys that the causal mask and the window exclude.
func (g *attentionGraph) masked(x *tensor) *tensor {
	a, ends := g.a, g.a.bottomRight()
	if !a.Causal {
		return x
	}
	row, col := g.index(x, 2, dnnFloat), g.index(x, 3, dnnFloat)
	if ends {
		keys, queries := g.keyLens, g.queryLens
		if keys == nil {
			keys, queries = g.number(dnnInt32, uint32(a.Keys)), g.number(dnnInt32, uint32(a.Queries))
		}
		row = g.ints(pointSub, g.ints(pointAdd, row, keys), queries)
	}
	x = g.where(g.holds(pointNotLT, row, col), x)
	if a.Window == 0 {
		return x
	}
	row, col = g.index(x, 2, dnnFloat), g.index(x, 3, dnnFloat)
	if ends && g.keyLens != nil {
		col = g.ints(pointAdd, col, g.number(dnnInt32, uint32(a.Window)))
		col = g.ints(pointAdd, g.ints(pointSub, col, g.keyLens), g.queryLens)
	} else { // cuDNN recognises windows of constant size only in f32
		size := g.number(dnnFloat, math.Float32bits(float32(a.Window-a.Keys+a.Queries)))
		col = g.float(pointAdd, g.scores(dnnFloat), col, size)
	}
	return g.where(g.holds(pointGT, col, row), x)
}

// forward adds softmax(mask(scale·q·kᵀ + bias))·v, and the logarithms of the sums of exponentials.
func (g *attentionGraph) forward() {
	a, o := g.a, g.o
	q, k, v := g.rows(slotQ, o.Q, a.Heads, a.Queries), g.columns(slotK, o.K), g.rows(slotV, o.V, a.KVHeads, a.Keys)
	scores := g.masked(g.scored(q, k))
	top := g.reduce(reduceMax, scores, g.statistic())
	e := g.float(pointExp, g.scores(dnnFloat), g.float(pointSub, g.scores(dnnFloat), scores, top))
	sum := g.reduce(reduceAdd, e, g.statistic())
	g.float(pointAdd, g.storedStatistic(slotLSE), top, g.float(pointLog, g.statistic(), sum))
	p := g.float(pointDiv, g.scores(dnnBF16), e, sum)
	g.multiply(p, v, g.rows(slotOut, o.Out, a.Heads, a.Queries), lengths{m: g.queryLens, k: g.keyLens})
}

// backward adds the gradient of attention. Probabilities are recomputed from the scores and lse.
func (g *attentionGraph) backward() {
	a, o := g.a, g.o
	q, k, v := g.rows(slotQ, o.Q, a.Heads, a.Queries), g.columns(slotK, o.K), g.columns(slotV, o.V)
	out, dout, dq := g.rows(slotOut, o.Out, a.Heads, a.Queries), g.rows(slotDOut, o.DOut, a.Heads, a.Queries), g.rows(slotDQ, o.DQ, a.Heads, a.Queries)
	lse := g.storedStatistic(slotLSE)
	full := [4]int64{a.Batch, a.Heads, a.Queries, a.HeadDim}

	product := g.tensor(dnnFloat, full, [4]int64{a.Heads * a.Queries * a.HeadDim, a.Queries * a.HeadDim, a.Heads * a.HeadDim, 1}, virtual)
	delta := g.reduce(reduceAdd, g.float(pointMul, product, dout, out), g.statistic())
	delta = g.float(pointMul, g.storedStatistic(slotDelta), delta, g.number(dnnFloat, math.Float32bits(1)))

	scores := g.float(pointSub, g.scores(dnnFloat), g.scored(q, k), lse)
	if g.version < 91000 {
		scores = g.padded(scores) // these need the mask again after the subtraction
	}
	p := g.float(pointExp, g.scores(dnnFloat), g.masked(scores))
	g.perKey(slotDV, o.DV, p, dout)

	dp := g.multiply(dout, v, g.scores(dnnFloat), lengths{m: g.queryLens, n: g.keyLens})
	dp = g.float(pointSub, g.scores(dnnFloat), dp, delta)
	ds := g.float(pointMul, g.scores(dnnFloat), dp, p)
	if a.BiasGradient {
		g.reduce(reduceAdd, ds, g.biasOperand(slotDBias))
	}
	ds = g.float(pointMul, g.scores(dnnFloat), ds, g.scale)
	g.perKey(slotDK, o.DK, ds, q)

	rows := g.reshape(k, g.tensor(dnnFloat, [4]int64{a.Batch, a.KVHeads, a.Keys, a.HeadDim}, [4]int64{o.K.Seq, o.K.Head, o.K.Row, 1}, virtual))
	l := lengths{m: g.queryLens, k: g.keyLens}
	if !a.NeedsSum() {
		g.multiply(ds, rows, dq, l)
		return
	}
	sum := g.multiply(ds, rows, g.operand(slotSum, dnnFloat, full, rowMajor(full)), l)
	g.float(pointCopy, dq, sum)
}

// perKey adds the gradient of keys or values: xᵀ·y of each head, summed over the heads that share it.
func (g *attentionGraph) perKey(s slot, v HeadView, x, y *tensor) {
	a := g.a
	transposed := g.tensor(dnnBF16, [4]int64{a.Batch, a.Heads, a.Keys, a.Queries},
		[4]int64{a.Heads * a.Queries * a.Keys, a.Queries * a.Keys, 1, a.Keys}, virtual)
	g.reshape(x, transposed)
	sum, l := g.rows(s, v, a.KVHeads, a.Keys), lengths{m: g.keyLens, k: g.queryLens}
	if a.Heads == a.KVHeads {
		g.multiply(transposed, y, sum, l)
		return
	}
	g.reduce(reduceAdd, g.multiply(transposed, y, g.between(dnnBF16, [4]int64{a.Batch, a.Heads, a.Keys, a.HeadDim}), l), sum)
}
